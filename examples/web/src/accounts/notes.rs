//! `/notes`: what the user that is logged in has written down.

use std::fmt::Write as _;

use waterwheel::http::{Form, Response, Route, Router, SessionId, StoredSession};
use waterwheel::offload::Order;

use super::database::Database;
use super::{Desk, fail, forbid, page};
use crate::html::escape;

/// Bytes of the form of a note, and of its text.
const MAX_FORM_BYTES: u64 = 16 << 10;
const MAX_NOTE_BYTES: usize = 4_000;

pub(super) fn mount(desk: &Desk, routes: Router<()>) -> Router<()> {
    let (reader, writer) = (desk.clone(), desk.clone());
    let notes =
        Route::new()
            .get(move |(), req, res| {
                let desk = reader.clone();
                reader.sessions.find(reader.sessions.id(req), res, move |(), session, res| {
                    match session {
                        Some(session) => desk.show(session, res),
                        None => res.status(303).redirect("/login"),
                    }
                });
            })
            .post(move |(), req, res| {
                let (desk, id) = (writer.clone(), writer.sessions.id(req));
                res.form(req, MAX_FORM_BYTES, move |(), form, res| desk.add(id, form, res));
            });
    routes.route("/notes", notes)
}

impl Desk {
    fn show(self, session: StoredSession, res: &mut Response<'_, ()>) {
        let user = session.data.clone();
        let list = move |database: &mut Database| database.notes(&user);
        let order = Order::of(&session.data);
        res.offload(&self.database, order, list, move |(), notes, res| match notes {
            Ok(Ok(notes)) => page(res, &text(&session, &notes)),
            _ => fail(res),
        });
    }

    fn add(self, id: Option<SessionId>, form: &Form, res: &mut Response<'_, ()>) {
        let (token, note) = (form.get("token").unwrap_or_default(), form.get("text"));
        let (token, note) = (token.to_owned(), note.unwrap_or_default().trim().to_owned());
        let database = self.database.clone();
        self.sessions.find(id, res, move |(), session, res| {
            let Some(session) = session else { return res.status(303).redirect("/login") };
            if !session.is_token(&token) {
                return forbid(res);
            }
            if note.is_empty() || note.len() > MAX_NOTE_BYTES {
                return res.status(400).text("a note has 1 to 4,000 bytes\n");
            }
            let order = Order::of(&session.data);
            let add = move |database: &mut Database| database.add_note(&session.data, &note);
            res.offload(&database, order, add, |(), added, res| match added {
                Ok(Ok(())) => res.status(303).redirect("/notes"),
                _ => fail(res),
            });
        });
    }
}

fn text(session: &StoredSession, notes: &[String]) -> String {
    let (user, token) = (escape(&session.data), &session.token);
    let token = format!("<input type=hidden name=token value={token}>");
    let mut text = format!(
        r#"<!doctype html><html lang=en><meta charset=utf-8><title>Notes</title>
<meta name=viewport content="width=device-width"><link rel=icon href="data:,">
<h1>Notes of {user}</h1>
<form method=post action=/notes>{token}<input name=text required maxlength=1000>
<button>Add</button></form>
<ul>
"#
    );
    for note in notes {
        let _ = writeln!(text, "<li>{}", escape(note));
    }
    let _ = write!(text, "</ul>\n<form method=post action=/logout>{token}<button>Log out</button>");
    text + "</form></html>\n"
}
