//! How far this plugin looks ahead, and so how much text it holds back. Each finder stops at a length of its own;
//! nothing is held because it is long.

/// Most bytes that the filter leaves unconsumed: the longest of the lookaheads below, in characters of up to three
/// bytes (an e-mail address: 64 + 1 + 255 characters), or an own shape of [`SHAPE_CHARACTERS_MAX`], rounded up. The
/// host's cap is 4 KiB.
pub const HOLDBACK_BYTES_MAX: u32 = 2048;

/// Characters before the `@` (RFC 5321, 4.5.3.1.1). Of a longer run the last 64 are taken.
pub(crate) const EMAIL_LOCAL_CHARACTERS_MAX: usize = 64;

/// Characters behind the `@` (RFC 5321, 4.5.3.1.2).
pub(crate) const EMAIL_DOMAIN_CHARACTERS_MAX: usize = 255;

/// Digits of a payment card (ISO/IEC 7812), and the most that a number is looked at for.
pub(crate) const CARD_DIGITS_MAX: usize = 19;

/// Digits of a telephone number (E.164).
pub(crate) const PHONE_DIGITS_MAX: usize = 15;

/// Characters of a JSON Web Token's header: some name the algorithm only (20 characters), some carry key identifiers.
pub(crate) const JWT_HEADER_CHARACTERS_MAX: usize = 1024;

/// Characters between `-----BEGIN ` and the closing dashes of a private key's first line.
pub(crate) const PEM_LABEL_CHARACTERS_MAX: usize = 48;

/// Bytes of a private key that are dropped where its last line does not come: an RSA key of 8,192 bits takes 6,400.
pub(crate) const PEM_BYTES_MAX: usize = 8192;

/// Characters of an own shape.
pub(crate) const SHAPE_CHARACTERS_MAX: usize = 256;

/// Own shapes; each is tried at every character.
pub(crate) const SHAPES_MAX: usize = 64;
