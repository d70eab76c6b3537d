//! Both snapshot drivers: one suite that each must pass, and what only one of them does.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod mounting;
#[cfg(test)]
mod overlay;
#[cfg(test)]
mod store;
#[cfg(test)]
mod suite;

/// The suite, once for each driver.
#[cfg(test)]
macro_rules! suite {
    ($driver:ident, $open:expr, [$($test:ident),* $(,)?]) => {
        mod $driver {
            $(#[test] fn $test() { crate::suite::$test(&$open); })*
        }
    };
}

#[cfg(test)]
mod drivers {
    use std::path::Path;
    use std::sync::Arc;

    use havre_meta::Meta;
    use havre_snapshot::{CopyDriver, OverlayDriver, Snapshotter};

    pub(crate) fn overlay(root: &Path, meta: &Meta) -> Arc<dyn Snapshotter> {
        Arc::new(OverlayDriver::open(root, meta).unwrap())
    }

    pub(crate) fn copy(root: &Path, meta: &Meta) -> Arc<dyn Snapshotter> {
        Arc::new(CopyDriver::open(root, meta).unwrap())
    }

    macro_rules! both {
        ($($test:ident),* $(,)?) => {
            suite!(overlay2, crate::drivers::overlay, [$($test),*]);
            suite!(vfs, crate::drivers::copy, [$($test),*]);
        };
    }

    both!(
        a_container_sees_all_layers_and_writes_only_its_own,
        layers_unpacked_apart_come_together_in_order,
        a_view_cannot_be_written_and_shows_its_parent,
        an_active_snapshot_becomes_a_parent,
        keys_are_unique_and_kinds_are_respected,
        parents_cannot_be_removed_before_children,
        removed_snapshots_leave_nothing_behind,
        the_space_of_what_was_removed_can_be_waited_for,
        everything_is_there_after_opening_again,
        what_was_not_recorded_is_swept,
        a_directory_that_vanished_is_reported_with_all_that_lies_on_it,
        a_failed_commit_leaves_the_layers_detached,
        usage_counts_what_a_snapshot_adds,
        many_at_once_do_not_meet,
        trees_show_own_and_merged_content,
    );
}
