//! The frames of <https://www.rfc-editor.org/rfc/rfc6455#section-5>, the server's side: reads masked ones, writes
//! unmasked ones. It keeps no payload but that of control frames, so no frame is too long for it.

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest payload of a control frame.
const MAX_CONTROL: usize = 125;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A piece of a text or binary message; where frames and messages end does not matter to a stream.
    Data(Bytes),
    Ping(Bytes),
    Pong,
    /// The client wants to end, for the reason with this number.
    Close(Option<u16>),
}

/// A client that does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame is not masked")]
    Unmasked,
    #[error("a frame has reserved bits or an unknown kind")]
    Unknown,
    #[error("a control frame is too long or in pieces")]
    Control,
    #[error("a frame has an impossible length")]
    Length,
    #[error("a message is continued that never began, or began twice")]
    Order,
}

/// What the server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
    Close,
    Pong,
}

impl Kind {
    fn opcode(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Pong => 10,
        }
    }
}

/// The head of a frame; the payload follows.
pub(super) fn head(kind: Kind, length: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(10);
    let first = 0x80 | kind.opcode();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.extend_from_slice(&[first, short]),
        (_, Ok(middle)) => {
            out.extend_from_slice(&[first, 126]);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        (_, Err(_long)) => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.freeze()
}

/// Reads frames from bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    frame: Option<Frame>,
    /// A message has begun whose last frame has not come.
    in_message: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the payload that were handed out, for the place in the mask.
    done: u64,
    left: u64,
}

impl Decoder {
    /// Takes up what was read.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item, or None when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Item>, FrameError> {
        loop {
            let Some(frame) = &mut self.frame else {
                match begin(&mut self.buffer, &mut self.in_message)? {
                    Some(frame) => self.frame = Some(frame),
                    None => return Ok(None),
                }
                continue;
            };
            let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
            if frame.opcode >= 8 {
                if self.buffer.len() < left {
                    return Ok(None);
                }
                let payload = unmask(frame, self.buffer.split_to(left));
                let item = control(frame.opcode, payload)?;
                self.frame = None;
                return Ok(Some(item));
            }
            if left == 0 {
                self.frame = None;
                continue;
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let length = left.min(self.buffer.len());
            return Ok(Some(Item::Data(unmask(
                frame,
                self.buffer.split_to(length),
            ))));
        }
    }
}

/// Reads the head of a frame.
fn begin(buffer: &mut BytesMut, in_message: &mut bool) -> Result<Option<Frame>, FrameError> {
    let (Some(&first), Some(&second)) = (buffer.first(), buffer.get(1)) else {
        return Ok(None);
    };
    let (last, opcode, short) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
    if first & 0x70 != 0 || !matches!(opcode, 0..=2 | 8..=10) {
        return Err(FrameError::Unknown);
    }
    if second & 0x80 == 0 {
        return Err(FrameError::Unmasked);
    }
    if opcode >= 8 {
        if !last || usize::from(short) > MAX_CONTROL {
            return Err(FrameError::Control);
        }
    } else if (opcode == 0) != *in_message {
        return Err(FrameError::Order);
    }
    let extra = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if buffer.len() < 2 + extra + 4 {
        return Ok(None);
    }
    buffer.advance(2);
    let left = match short {
        126 => u64::from(buffer.get_u16()),
        127 => buffer.get_u64(),
        short => u64::from(short),
    };
    if left > i64::MAX.unsigned_abs() {
        return Err(FrameError::Length);
    }
    let mask = buffer.get_u32().to_be_bytes();
    if opcode < 8 {
        *in_message = !last;
    }
    Ok(Some(Frame {
        opcode,
        mask,
        done: 0,
        left,
    }))
}

fn unmask(frame: &mut Frame, mut payload: BytesMut) -> Bytes {
    let mut mask = frame.mask;
    mask.rotate_left(usize::try_from(frame.done % 4).unwrap_or(0));
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    frame.done += payload.len() as u64;
    frame.left -= payload.len() as u64;
    payload.freeze()
}

fn control(opcode: u8, payload: Bytes) -> Result<Item, FrameError> {
    Ok(match opcode {
        9 => Item::Ping(payload),
        10 => Item::Pong,
        _ => match payload.as_ref() {
            [] => Item::Close(None),
            [high, low, ..] => Item::Close(Some(u16::from_be_bytes([*high, *low]))),
            [_] => return Err(FrameError::Control),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a client writes it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut out = head(Kind::Binary, payload.len()).to_vec();
        out[0] = first;
        out[1] |= 0x80;
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        out
    }

    /// Everything in `bytes`, which come in pieces of `size`; pieces of data are put together.
    fn decode(bytes: &[u8], size: usize) -> Result<(Vec<u8>, Vec<Item>), FrameError> {
        let mut decoder = Decoder::default();
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size.max(1)) {
            decoder.feed(piece);
            while let Some(item) = decoder.next()? {
                match item {
                    Item::Data(bytes) => data.extend_from_slice(&bytes),
                    other => rest.push(other),
                }
            }
        }
        Ok((data, rest))
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(decode(&hello, 64).unwrap().0, b"Hello");
        assert_eq!(&head(Kind::Text, 5)[..], [0x81, 0x05]);
        assert_eq!(&head(Kind::Binary, 256)[..], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(
            &head(Kind::Binary, 65536)[..],
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn messages_come_in_frames_with_control_frames_between() {
        let mut bytes = masked(0x02, b"one ");
        bytes.extend(masked(0x89, b"are you there"));
        bytes.extend(masked(0x00, b"two "));
        bytes.extend(masked(0x8a, b""));
        bytes.extend(masked(0x80, b"three"));
        bytes.extend(masked(0x81, b" four"));
        bytes.extend(masked(0x88, &[0x03, 0xe8, b'x']));
        for size in [1, 2, 3, 7, 1000] {
            let (data, rest) = decode(&bytes, size).unwrap();
            assert_eq!(data, b"one two three four");
            let ping = Item::Ping(Bytes::from_static(b"are you there"));
            assert_eq!(rest, [ping, Item::Pong, Item::Close(Some(1000))]);
        }
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let mut endless = vec![0x82, 0xff];
        endless.extend([0xff; 8]);
        endless.extend([0; 4]);
        for (bytes, error) in [
            (vec![0x81, 0x05, b'h'], FrameError::Unmasked),
            (masked(0xc1, b""), FrameError::Unknown),
            (masked(0x83, b""), FrameError::Unknown),
            (masked(0x09, b""), FrameError::Control),
            (masked(0x89, &[0; 126]), FrameError::Control),
            (masked(0x88, b"x"), FrameError::Control),
            (masked(0x80, b"x"), FrameError::Order),
            (
                [masked(0x02, b""), masked(0x82, b"")].concat(),
                FrameError::Order,
            ),
            (endless, FrameError::Length),
        ] {
            assert_eq!(decode(&bytes, 64), Err(error), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn data_comes_through_however_it_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
            size in 1_usize..400,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| masked(0x82, frame)).collect();
            let (data, rest) = decode(&bytes, size).unwrap();
            prop_assert_eq!(data, frames.concat());
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_alike_however_they_are_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            size in 1_usize..20,
        ) {
            prop_assert_eq!(decode(&bytes, size), decode(&bytes, 1000));
        }
    }
}
