//! Ttrpc framing, containerd Task API messages and the attach protocol.
