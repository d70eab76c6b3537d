//! A table whose entries keep their number while others come and go.

use std::iter;

#[derive(Debug)]
pub(crate) struct Slab<T>(Vec<Option<T>>);

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slab<T> {
    /// The number that the next [`Slab::insert`] will give.
    pub(crate) fn vacant(&self) -> usize {
        self.0
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.0.len())
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        let at = self.vacant();
        match self.0.get_mut(at) {
            Some(free) => *free = Some(value),
            None => self.0.push(Some(value)),
        }
        at
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.get_mut(at).and_then(Option::as_mut)
    }

    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        let removed = self.0.get_mut(at).and_then(Option::take);
        let used = self
            .0
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |last| last + 1);
        self.0.truncate(used);
        removed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        iter::zip(0.., &self.0).filter_map(|(at, entry)| Some((at, entry.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        iter::zip(0.., &mut self.0).filter_map(|(at, entry)| Some((at, entry.as_mut()?)))
    }

    /// The numbers in use now, for loops that change the table.
    pub(crate) fn numbers(&self) -> Vec<usize> {
        self.iter().map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_used_again() {
        let mut slab = Slab::default();
        assert_eq!(
            (slab.insert('a'), slab.insert('b'), slab.insert('c')),
            (0, 1, 2)
        );
        assert_eq!(slab.remove(1), Some('b'));
        assert_eq!(
            (slab.get(1), slab.vacant(), slab.numbers()),
            (None, 1, vec![0, 2])
        );
        assert_eq!(slab.insert('d'), 1);
        assert_eq!(slab.remove(9), None);
        assert_eq!(
            slab.iter().map(|(_, letter)| *letter).collect::<String>(),
            "adc"
        );
    }
}
