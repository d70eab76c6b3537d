//! Names that the kernel sees. Each derives from the engine's instance, so engines side by side never collide, and each
//! fits the 15 bytes of an interface's name.

use havre_types::Digest;

/// The mark of an instance in names of interfaces: five hexadecimal digits.
fn mark(instance: &str) -> String {
    let digest = Digest::sha256_of(instance.as_bytes());
    digest.hex().get(..5).unwrap_or_default().to_owned()
}

/// What the names of all bridges of an instance begin with.
#[must_use]
pub fn bridge_prefix(instance: &str) -> String {
    format!("hv{}", mark(instance))
}

/// The bridge of the default network.
#[must_use]
pub fn default_bridge(instance: &str) -> String {
    format!("{}0", bridge_prefix(instance))
}

/// The bridge of another network.
#[must_use]
pub fn bridge(instance: &str, network: &str) -> String {
    let part = network.get(..7).unwrap_or(network);
    format!("{}-{part}", bridge_prefix(instance))
}

/// The parent of a macvlan or ipvlan network that named none.
pub(crate) fn dummy(instance: &str, network: &str) -> String {
    let part = network.get(..6).unwrap_or(network);
    format!("{}-{part}", dummy_prefix(instance))
}

/// What the names of all those parents begin with.
pub(crate) fn dummy_prefix(instance: &str) -> String {
    format!("hd{}", mark(instance))
}

/// What the names of the host's ends of all cables of an instance begin with.
pub(crate) fn cable_prefix(instance: &str) -> String {
    format!("vh{}", mark(instance))
}

/// The nftables table.
#[must_use]
pub fn table(instance: &str) -> String {
    if instance == "havre" || instance.starts_with("havre-") {
        instance.to_owned()
    } else {
        format!("havre-{instance}")
    }
}

/// Whether the kernel takes this as the name of an interface (`dev_valid_name`), and no tool misreads it: SECURITY N19.
#[must_use]
pub fn is_interface(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let first = name.bytes().next();
    name.len() <= 15
        && first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let id = "0123456789abcdef";
        for instance in ["havre", "havre-12345678", ""] {
            for name in [
                default_bridge(instance),
                bridge(instance, id),
                dummy(instance, id),
                format!("{}00000000", cable_prefix(instance)),
            ] {
                assert!(is_interface(&name), "{name}");
            }
        }
        assert_ne!(default_bridge("havre"), default_bridge("havre-1"));
        assert_ne!(bridge("havre", id), bridge("havre", "fedcba9876543210"));
        assert_eq!(bridge("havre", "ab").len(), 10);
        assert_eq!(table("havre"), "havre");
        assert_eq!(table("havre-12345678"), "havre-12345678");
        assert_eq!(table("x"), "havre-x");
    }

    #[test]
    fn strange_names_are_refused() {
        for good in ["eth0", "eth0.10", "br-1", "_x", "abcdefghijklmno"] {
            assert!(is_interface(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-x",
            "a b",
            "a/b",
            "../x",
            "a\"b",
            "a;b",
            "a\nb",
            "a'b",
            "a{b",
            "abcdefghijklmnop",
            "é",
            "a:b",
            "*",
        ] {
            assert!(!is_interface(bad), "{bad:?}");
        }
    }
}
