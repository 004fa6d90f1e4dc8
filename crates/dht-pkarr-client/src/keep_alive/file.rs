//! The file of packets that are kept alive: a line each.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use dht_pkarr::keep_alive::Status;
use dht_pkarr::{SignedPacket, Timestamp};

/// The first line.
const HEAD: &str = "dht-pkarr keep-alive 1";
/// A line is shorter than this: the packet in hexadecimal digits, and four numbers.
const MAX_LINE: u64 = 2 * SignedPacket::MAX_LEN as u64 + 100;

/// Reads a file; nothing if there is none.
pub(super) fn read(path: &Path) -> io::Result<Vec<(SignedPacket, Status)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(file);
    let mut kept = Vec::new();
    for number in 1_usize.. {
        let mut line = String::new();
        let len = io::Read::take(&mut lines, MAX_LINE).read_line(&mut line)?;
        let wrong = |what: &str| {
            let text = format!("line {number} {what}; move the file away to begin anew");
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        match (number, line.strip_suffix('\n')) {
            (1, Some(HEAD)) => {}
            (1, _) => return Err(wrong("is not that of a file of packets to keep alive")),
            (_, Some(line)) => {
                kept.push(parse(line).ok_or_else(|| wrong("has no packet and its status"))?);
            }
            (_, None) if len == 0 => break,
            (_, None) => return Err(wrong("is cut off")),
        }
    }
    Ok(kept)
}

/// Writes a file beside, and puts it in place of the one before.
pub(super) fn write<'a>(
    path: &Path,
    kept: impl Iterator<Item = (&'a SignedPacket, &'a Status)>,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut to = BufWriter::new(File::create(&beside)?);
    writeln!(to, "{HEAD}")?;
    for (packet, status) in kept {
        for byte in packet.as_bytes() {
            write!(to, "{byte:02x}")?;
        }
        let published = status.published.map_or_else(|| "-".to_owned(), |time| time.to_string());
        let verified = status.verified.map_or_else(|| "-".to_owned(), |count| count.to_string());
        writeln!(to, " {published} {} {verified} {}", status.stored, status.failures)?;
    }
    to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&beside, path)
}

fn parse(line: &str) -> Option<(SignedPacket, Status)> {
    let mut words = line.split(' ');
    let packet = SignedPacket::from_bytes(&bytes(words.next()?)?).ok()?;
    let mut status = Status::default();
    status.published = match words.next()? {
        "-" => None,
        micros => Some(Timestamp::from_micros(micros.parse().ok()?)?),
    };
    status.stored = words.next()?.parse().ok()?;
    status.verified = match words.next()? {
        "-" => None,
        count => Some(count.parse().ok()?),
    };
    status.failures = words.next()?.parse().ok()?;
    words.next().is_none().then_some((packet, status))
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use dht_pkarr::Keypair;

    use super::*;

    fn packet(number: u8) -> SignedPacket {
        let keypair = Keypair::from_secret(&[number; 32]);
        SignedPacket::builder().txt("@", "x", 60).sign(&keypair, Timestamp::from_secs(5)).unwrap()
    }

    fn status(stored: u32, verified: Option<u32>) -> Status {
        let mut status = Status::default();
        (status.stored, status.verified, status.failures) = (stored, verified, 3);
        status.published = verified.map(|_| Timestamp::from_secs(7));
        status
    }

    #[test]
    fn what_is_written_is_read_back_and_what_is_not_whole_is_refused() {
        let dir = std::env::temp_dir().join(format!("dht-pkarr-client-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("kept");
        assert_eq!(read(&path).unwrap(), []);
        let kept = [(packet(1), status(8, Some(7))), (packet(2), status(0, None))];
        write(&path, kept.iter().map(|(packet, status)| (packet, status))).unwrap();
        assert_eq!(read(&path).unwrap(), kept);
        let text = fs::read_to_string(&path).unwrap();
        for (bad, line) in [
            (String::new(), "line 1 "),
            ("something else\n".to_owned(), "line 1 "),
            (text.replace(" 8 7 ", " 8 x "), "line 2 "),
            (text.replace(" 8 7 ", " 8 7 9 "), "line 2 "),
            (text[..text.len() - 1].to_owned(), "line 3 "),
            (text.clone() + "00 - 0 - 0\n", "line 4 "),
            (text.clone() + &"0".repeat(9_999) + "\n", "line 4 "),
        ] {
            fs::write(&path, &bad).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.starts_with(line), "{error}");
        }
        // A packet whose signature does not hold has been tampered with.
        let forged = text.replacen(&text[50..54], "0000", 1);
        fs::write(&path, forged).unwrap();
        assert!(read(&path).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
