//! The header of a balancer as a layer that removes itself.

use std::any::Any;
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::buffer::Scratch;
use crate::base::proxy_protocol::{ProxyProtocol, parse};
use crate::base::stats::Stats;
use crate::options::layer::{Decoded, Layer, LayerFactory, LayerStage};

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
                let stage = LayerStage::Finished(header.addresses);
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
