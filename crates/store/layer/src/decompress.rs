//! Decompression by magic number, inside the process: gzip, zstd and xz, each of several members or
//! frames, or none. No decoder may take more memory than its limit here.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;

/// As one read from the source; large ones matter to gzip.
const INPUT: usize = 256 * 1024;
const XZ_MEMORY: u64 = 256 * 1024 * 1024;
/// As 2^27 bytes = 128 MiB, the most that the zstd program itself decodes unasked.
/// <https://github.com/facebook/zstd/blob/dev/programs/zstd.1.md>
const ZSTD_WINDOW_LOG: u32 = 27;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    /// Known, but not supported.
    Bzip2,
}

impl Compression {
    /// Recognises the format of a stream by its first bytes (six are enough).
    #[must_use]
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A frame to be skipped, which may stand first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The decompressed bytes of a stream.
pub struct Decompressor<R: Read> {
    compression: Compression,
    inner: Inner<R>,
}

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::Decoder<'static, Source<R>>>),
    Xz(Box<XzDecoder<Source<R>>>),
}

impl<R: Read> std::fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor")
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

/// Looks at the first bytes of `source` and decompresses what they announce.
pub fn decompress<R: Read>(mut source: R) -> io::Result<Decompressor<R>> {
    let mut head = Vec::with_capacity(8);
    Read::by_ref(&mut source).take(6).read_to_end(&mut head)?;
    let compression = Compression::detect(&head);
    let source = BufReader::with_capacity(INPUT, Cursor::new(head).chain(source));
    let inner = match compression {
        Compression::None => Inner::Plain(source),
        Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(source))),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Inner::Zstd(Box::new(decoder))
        }
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)
                .map_err(io::Error::other)?;
            Inner::Xz(Box::new(XzDecoder::new_stream(source, stream)))
        }
        Compression::Bzip2 => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "bzip2 is not supported",
            ));
        }
    };
    Ok(Decompressor { compression, inner })
}

impl<R: Read> Decompressor<R> {
    #[must_use]
    pub const fn compression(&self) -> Compression {
        self.compression
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(source) => source.read(out),
            Inner::Gzip(decoder) => decoder.read(out),
            Inner::Zstd(decoder) => decoder.read(out),
            Inner::Xz(decoder) => decoder.read(out),
        }
    }
}
