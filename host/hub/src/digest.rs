//! The two digests by which the Hub names contents.

use std::fmt;

macro_rules! digest {
    ($(#[$docs:meta])* $name:ident, $bytes:literal) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The digest that is written as lower-case hexadecimal digits, if it is one.
            #[must_use]
            pub fn parse(given: &str) -> Option<Self> {
                let mut bytes = [0; $bytes];
                hexadecimal(given, &mut bytes)?;
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

digest!(
    /// The SHA-256 of a file's bytes: what LFS names a file by.
    Sha256,
    32
);
digest!(
    /// The SHA-1 that git names a blob by: of `blob LENGTH\0` and the bytes. Of a file in LFS, it is the pointer's.
    GitSha1,
    20
);

/// Fills `bytes` from exactly as many lower-case digits as it takes.
fn hexadecimal(given: &str, bytes: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if given.len() != bytes.len() * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(given.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_it_was_read() {
        let written = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
        assert_eq!(Sha256::parse(written).expect("64 digits").to_string(), written);
        let written = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        assert_eq!(GitSha1::parse(written).expect("40 digits").to_string(), written);
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        let sound = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        let upper = sound.to_uppercase();
        for given in ["", &sound[1..], &format!("{sound}0"), &upper, &format!("../{}", &sound[3..]), &"é".repeat(20)] {
            assert_eq!(GitSha1::parse(given), None, "{given}");
        }
        assert_eq!(Sha256::parse(sound), None);
    }
}
