//! What is done with pictures and costs time: decoding and scaling JPEG, thumbnails (WebP), and video (H264). All of it is plain
//! functions, to be called on the [`Pool`], which has threads of its own and says at once when it has no time.

pub mod h264;
mod pool;
mod raster;
mod thumbnail;

pub use pool::{Busy, Pool, PoolCounters};
pub use raster::{Raster, RasterError};
pub use thumbnail::thumbnail;
