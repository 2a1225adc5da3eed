//! A connection that has left HTTP: bytes pass in both directions.

use waterwheel::http::{Upgraded, Upload};
use waterwheel::{Closed, Conn, ConnId, Context, Written};

use crate::Proxy;

/// The client's side of a tunnel.
pub(crate) struct Tunnel {
    upload: Upload,
    /// The connection to the server behind.
    server: ConnId,
}

impl Tunnel {
    pub(crate) fn new(upload: Upload, server: ConnId) -> Self {
        Self { upload, server }
    }
}

impl Upgraded<Proxy> for Tunnel {
    fn on_data(&mut self, _: &mut Proxy, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        match self.upload.write(&mut conn.context(), input) {
            Written::Below => {}
            Written::Above => conn.pause_reading(), // the upload says when to go on
            Written::Full | Written::Closed => conn.close(),
        }
        input.len()
    }

    fn on_drain(&mut self, _: &mut Proxy, conn: &mut Conn<'_>) {
        if let Some(mut server) = conn.other_conn(self.server) {
            server.resume_reading();
        }
    }

    fn on_eof(&mut self, _: &mut Proxy, conn: &mut Conn<'_>) {
        // What the server still has to say is passed on.
        self.upload.end(&mut conn.context());
    }

    fn on_close(self: Box<Self>, _: &mut Proxy, _: &Closed, cx: &mut Context<'_>) {
        self.upload.abort(cx);
        if let Some(mut server) = cx.conn(self.server) {
            server.close();
        }
    }
}
