//! Keys that sign and encrypt the values of cookies.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use cookie::{Cookie, CookieJar, Key};

/// Bytes of a key: half of them sign, half encrypt.
const KEY_BYTES: usize = 64;

/// Characters of a signature in Base64.
const SIGNATURE_CHARACTERS: usize = 44;

/// The largest file of keys, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// A list of secret keys for the values of cookies. The first key signs and encrypts; all keys
/// verify and decrypt. So a new key can be put in front without logging anyone out, and the last
/// one can be removed once its cookies have expired. Processes with the same keys understand each
/// other's cookies.
///
/// A value is bound to the name of its cookie: that of one is no value of another. Signatures
/// (HMAC-SHA-256) are compared in constant time; encryption is AES-256-GCM.
///
/// # Examples
/// ```
/// use waterwheel::http::{CookieKeys, Router, SetCookie};
///
/// let keys = CookieKeys::generate()?; // or from_file: these are gone with the process
/// let routes: Router<()> = Router::new().get("/cart", move |_, req, res| {
///     let cart = req.cookie("cart").and_then(|cart| keys.verify("cart", cart));
///     let value = keys.sign("cart", &(cart.unwrap_or_default() + "+1"));
///     res.set_cookie(&SetCookie::new("cart", &value)).text("one more\n");
/// });
/// # let _ = routes;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct CookieKeys {
    /// Never empty.
    keys: Vec<Key>,
}

impl CookieKeys {
    /// Reads keys from a file: 128 hexadecimal digits a line, as `openssl rand -hex 64` writes
    /// them. Empty lines, and those that begin with `#`, are left out.
    ///
    /// # Errors
    /// - `PermissionDenied`: others than the owner may read or write the file (Unix).
    /// - `InvalidData`: it has no key, a malformed one, or more than 64 KiB.
    /// - The system's, if the file cannot be read.
    ///
    /// The text names the file.
    pub fn from_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let text = read(path)?;
        let invalid = |line: usize, why: &str| {
            let text = format!("{}:{line}: {why}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(invalid(1, "a file of keys has at most 64 KiB"));
        }
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse(line).ok_or_else(|| invalid(number, "a key is 128 hexadecimal digits"));
            keys.push(Key::from(&key?));
        }
        if keys.is_empty() {
            return Err(invalid(1, "there is no key"));
        }
        Ok(Self { keys })
    }

    /// A new key, which is gone with the process.
    ///
    /// # Errors
    /// The system's, if it has no random bytes.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self { keys: vec![Key::from(&bytes)] })
    }

    /// A value that cannot be forged; it can be read. Its characters, but for the 44 of the
    /// signature before it, are those of `value`, which must be of a cookie.
    #[must_use]
    pub fn sign(&self, name: &str, value: &str) -> String {
        let mut jar = CookieJar::new();
        jar.signed_mut(&self.keys[0]).add(Cookie::new(name.to_owned(), bind(name, value)));
        let signed = jar.get(name).map(Cookie::value).unwrap_or_default();
        let signature = signed.get(..SIGNATURE_CHARACTERS).unwrap_or_default();
        format!("{signature}{value}")
    }

    /// The value that was signed, if one of the keys has signed it for this name.
    #[must_use]
    pub fn verify(&self, name: &str, signed: &str) -> Option<String> {
        let (signature, value) = signed.split_at_checked(SIGNATURE_CHARACTERS)?;
        let bound = format!("{signature}{}", bind(name, value));
        let is_signed = self.keys.iter().any(|key| {
            let cookie = Cookie::new(name.to_owned(), bound.clone());
            CookieJar::new().signed(key).verify(cookie).is_some()
        });
        is_signed.then(|| value.to_owned())
    }

    /// A value that can be neither forged nor read. It may be any text.
    #[must_use]
    pub fn encrypt(&self, name: &str, value: &str) -> String {
        let mut jar = CookieJar::new();
        jar.private_mut(&self.keys[0]).add(Cookie::new(name.to_owned(), value.to_owned()));
        jar.get(name).map(|cookie| cookie.value().to_owned()).unwrap_or_default()
    }

    /// The value that was encrypted, if one of the keys has encrypted it for this name.
    #[must_use]
    pub fn decrypt(&self, name: &str, encrypted: &str) -> Option<String> {
        let cookie = Cookie::new(name.to_owned(), encrypted.to_owned());
        let mut decrypted = self
            .keys
            .iter()
            .filter_map(|key| CookieJar::new().private(key).decrypt(cookie.clone()));
        decrypted.next().map(|cookie| cookie.value().to_owned())
    }
}

/// What is signed: the crate signs a value without its name.
fn bind(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

/// The text of a file of keys that only its owner can read.
fn read(path: &Path) -> io::Result<String> {
    let unread = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; `openssl rand -hex 64` writes a key",
            _ => "",
        };
        let text = format!("cannot read the keys in {}: {error}{hint}", path.display());
        io::Error::new(error.kind(), text)
    };
    let file = File::open(path).map_err(unread)?;
    check_mode(&file.metadata().map_err(unread)?, path)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unread)?;
    Ok(text)
}

/// The bytes of a key.
fn parse(digits: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

/// That only the owner can read the file.
#[cfg(unix)]
fn check_mode(found: &fs::Metadata, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if found.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{}: others can read the keys: chmod 600", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

#[cfg(not(unix))]
fn check_mode(_: &fs::Metadata, _: &Path) -> io::Result<()> {
    Ok(())
}

impl fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieKeys").field("keys", &self.keys.len()).finish()
    }
}
