//! stub
use crate::ids::Ssrc;
use crate::drops::DropReason;
pub use crate::receive::statistics::ReportBlock;
pub struct SenderInfo { pub ntp: u64, pub rtp_timestamp: u32 }
pub struct Sr { pub ssrc: Ssrc, pub info: SenderInfo }
impl Sr { pub fn blocks(&self) -> std::vec::IntoIter<ReportBlock> { vec![].into_iter() } }
pub struct Rr {}
impl Rr { pub fn blocks(&self) -> std::vec::IntoIter<ReportBlock> { vec![].into_iter() } }
pub struct Nack { pub media: Ssrc }
impl Nack { pub fn sequence_numbers(&self) -> std::vec::IntoIter<u16> { vec![].into_iter() } }
pub struct Pli { pub media: Ssrc }
pub struct FirEntry { pub ssrc: Ssrc }
pub struct Fir {}
impl Fir { pub fn entries(&self) -> std::vec::IntoIter<FirEntry> { vec![].into_iter() } }
pub enum Packet<'a> { SenderReport(Sr), ReceiverReport(Rr), Nack(Nack), Pli(Pli), Fir(Fir), O(&'a [u8]) }
pub fn parse(_p: &[u8]) -> std::vec::IntoIter<Result<Packet<'_>, DropReason>> { vec![].into_iter() }
pub mod write {
    use crate::ids::Ssrc;
    use crate::receive::transport_feedback::FeedbackPlan;
    use crate::receive::statistics::ReportBlock;
    pub fn nack(_a: Ssrc, _b: Ssrc, _c: &[u16], _o: &mut Vec<u8>) {}
    pub fn pli(_a: Ssrc, _b: Ssrc, _o: &mut Vec<u8>) {}
    pub fn transport_feedback(_a: Ssrc, _b: &FeedbackPlan<'_>, _o: &mut Vec<u8>) {}
    pub fn receiver_report(_a: Ssrc, _b: &[ReportBlock], _o: &mut Vec<u8>) {}
    pub fn sender_report(_a: Ssrc, _n: u64, _t: u32, _p: u32, _oc: u32, _o: &mut Vec<u8>) {}
    pub fn cname(_a: Ssrc, _n: &str, _o: &mut Vec<u8>) {}
}
