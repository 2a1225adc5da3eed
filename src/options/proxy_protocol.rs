//! The header of a balancer as a layer that removes itself.

use std::any::Any;
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::buffer::Scratch;
use crate::base::proxy_protocol::{ProxyProtocol, parse};
use crate::base::stats::Stats;
use crate::options::layer::{Decoded, Layer, LayerFactory, LayerStage};
use crate::options::{ListenOptions, MAX_LIMIT, at_least_1ms, at_most};

#[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
impl ListenOptions {
    setters! { proxy_protocol: Option<ProxyProtocol> }

    /// The layer that takes the header off.
    pub(super) fn header_layer(&self) -> Option<Arc<dyn LayerFactory>> {
        self.proxy_protocol.clone().map(|proxy| Arc::new(proxy) as _)
    }

    pub(super) fn check_header(&self) -> io::Result<()> {
        let Some(proxy) = &self.proxy_protocol else { return Ok(()) };
        at_least_1ms("proxy_protocol.header_timeout", Some(proxy.header_timeout))?;
        at_most("proxy_protocol.header_timeout", Some(proxy.header_timeout), MAX_LIMIT)
    }
}

impl LayerFactory for ProxyProtocol {
    fn layer(&self, peer: SocketAddr) -> Result<Box<dyn Layer>, Cow<'static, str>> {
        match self.trusts(peer.ip()) {
            true => Ok(Box::new(HeaderLayer)),
            false => Err("its source is not trusted".into()),
        }
    }

    fn timeout(&self) -> Duration {
        self.header_timeout
    }

    fn demand(&self) -> &'static str {
        "the listener wants the PROXY protocol from trusted networks"
    }

    fn failures<'a>(&self, stats: &'a mut Stats) -> &'a mut u64 {
        &mut stats.proxy_refused
    }

    fn names_source(&self) -> bool {
        true
    }
}

/// Waits for one header.
#[derive(Debug)]
struct HeaderLayer;

impl Layer for HeaderLayer {
    fn begin(&mut self, _: &mut Scratch) {}

    fn decode(
        &mut self,
        input: &mut [u8],
        _: &mut Vec<u8>,
        _: &mut Scratch,
    ) -> io::Result<Decoded> {
        match parse(input) {
            Ok(None) => Ok(Decoded { consumed: 0, stage: LayerStage::Handshake }),
            Ok(Some(header)) => {
                let stage = LayerStage::Finished(header.addresses.map(Box::new));
                Ok(Decoded { consumed: header.bytes, stage })
            }
            Err(text) => Err(io::Error::new(io::ErrorKind::InvalidData, text)),
        }
    }

    fn encode(&mut self, plain: &[u8], _: &mut [u8], output: &mut Scratch) -> io::Result<()> {
        output.push(plain);
        Ok(())
    }

    fn encode_end(&mut self, _: &mut [u8], _: &mut Scratch) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}
