//! What the load tool and the comparison share.

pub mod histogram;
pub mod process;
