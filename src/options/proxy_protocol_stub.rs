//! Stands for `proxy_protocol.rs` in a build without the feature: no connection begins with a
//! header.

use std::io;
use std::sync::Arc;

use crate::options::ListenOptions;
use crate::options::layer::LayerFactory;

impl ListenOptions {
    pub(super) fn header_layer(&self) -> Option<Arc<dyn LayerFactory>> {
        None
    }

    pub(super) fn check_header(&self) -> io::Result<()> {
        Ok(())
    }
}
