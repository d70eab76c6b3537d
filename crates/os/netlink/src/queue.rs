//! Bandwidth: a token bucket on what an interface sends (man 8 tc-tbf).

use crate::error::NetlinkError;
use crate::message::{CREATE, Message, REPLACE};
use crate::route::Route;

const NEW: u16 = 36;
const DELETE: u16 = 37;
/// `struct tcmsg`
const FIXED: usize = 20;

// linux/rtnetlink.h, linux/pkt_sched.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const ROOT: u32 = 0xffff_ffff;
const HANDLE: u32 = 0x0001_0000;
/// The kernel's clock for buckets: 64 ns a tick (`PSCHED_SHIFT`).
const NANOS_PER_TICK: u64 = 64;
/// `struct tc_tbf_qopt`: two rates of 12 bytes, limit, buffer, mtu.
const PARMS: usize = 36;

/// How fast an interface may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shaper {
    /// Bytes a second, at least 1.
    pub rate: u64,
    /// Bytes that may be sent at once; at least the largest packet.
    pub burst: u32,
    /// Bytes that may wait before packets are dropped.
    pub limit: u32,
}

impl Shaper {
    /// A bucket for a rate: 10 ms of it, at least one packet of 64 KiB as offloading makes them, and 50 ms of queue.
    #[must_use]
    pub fn for_rate(rate: u64) -> Self {
        let burst = u32::try_from(rate / 100)
            .unwrap_or(u32::MAX / 8)
            .max(64 * 1024);
        let waiting = u32::try_from(rate / 20).unwrap_or(u32::MAX / 4);
        Self {
            rate: rate.max(1),
            burst,
            limit: waiting.max(burst.saturating_mul(2)),
        }
    }

    fn parameters(self) -> [u8; PARMS] {
        let mut bytes = [0; PARMS];
        // The plain rate has 32 bits; TBF_RATE64 carries what is more. `struct tc_ratespec` ends with it.
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        bytes[8..12].copy_from_slice(&rate.to_ne_bytes());
        // linklayer Ethernet
        bytes[1] = 1;
        bytes[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        let nanos = u64::from(self.burst).saturating_mul(1_000_000_000) / self.rate;
        let ticks = u32::try_from(nanos / NANOS_PER_TICK).unwrap_or(u32::MAX);
        bytes[28..32].copy_from_slice(&ticks.to_ne_bytes());
        bytes
    }
}

fn fixed(index: u32) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&HANDLE.to_ne_bytes());
    bytes[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    bytes
}

/// Queues.
impl Route {
    /// Bounds how fast an interface sends; a bound that is there is changed.
    pub fn shape(&mut self, index: u32, shaper: Shaper) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW, CREATE | REPLACE, &fixed(index));
        message.put_text(TCA_KIND, "tbf");
        message.nest(TCA_OPTIONS, |options| {
            options.put(TBF_PARMS, &shaper.parameters());
            options.put(TBF_RATE64, &shaper.rate.to_ne_bytes());
            options.put_u32(TBF_BURST, shaper.burst);
        });
        self.socket.change(
            &format!("limit the bandwidth of interface {index}"),
            message,
        )
    }

    /// Lets an interface send as fast as it can again.
    pub fn unshape(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(DELETE, 0, &fixed(index));
        message.put_text(TCA_KIND, "tbf");
        self.socket
            .change(&format!("free the bandwidth of interface {index}"), message)
    }
}
