//! What the two sides say of permessage-deflate in the handshake (RFC 7692, section 7.1).

use crate::ws::deflate::extension::{self, Extension};
use crate::ws::deflate::{Deflate, MAX_BITS, MIN_BITS, Params};

const NAME: &str = "permessage-deflate";

/// The parameters of one offer, or of the answer to it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Terms {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    /// Without a value, an offer says that the client can be told one.
    client_bits: Option<Option<u8>>,
}

impl Terms {
    /// Reads the parameters strictly: an unknown one, one that comes twice, or a value that is
    /// missing, superfluous or out of range spoils them all.
    fn read(extension: &Extension<'_>) -> Option<Self> {
        let mut terms = Self::default();
        for &(name, value) in &extension.params {
            let is_new = match (name, value) {
                ("server_no_context_takeover", None) => {
                    !std::mem::replace(&mut terms.server_no_context, true)
                }
                ("client_no_context_takeover", None) => {
                    !std::mem::replace(&mut terms.client_no_context, true)
                }
                ("server_max_window_bits", Some(value)) => {
                    terms.server_bits.replace(bits(value)?).is_none()
                }
                ("client_max_window_bits", None) => terms.client_bits.replace(None).is_none(),
                ("client_max_window_bits", Some(value)) => {
                    terms.client_bits.replace(Some(bits(value)?)).is_none()
                }
                _ => return None,
            };
            if !is_new {
                return None;
            }
        }
        Some(terms)
    }

    fn write(&self) -> String {
        let mut text = NAME.to_owned();
        if self.server_no_context {
            text += "; server_no_context_takeover";
        }
        if self.client_no_context {
            text += "; client_no_context_takeover";
        }
        if let Some(bits) = self.server_bits {
            text += &format!("; server_max_window_bits={bits}");
        }
        match self.client_bits {
            None => {}
            Some(None) => text += "; client_max_window_bits",
            Some(Some(bits)) => text += &format!("; client_max_window_bits={bits}"),
        }
        text
    }
}

/// 8 to 15, in decimal and without a zero in front.
fn bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits: &u8| (8..=15).contains(bits))?;
    (value == bits.to_string()).then_some(bits)
}

/// The server's choice among the offers of a client, and its answer. `values` are those of all
/// fields; an offer that cannot be kept to is passed over.
pub(crate) fn agree<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    own: &Deflate,
) -> Option<(Params, String)> {
    let lists = values.map(extension::parse).collect::<Option<Vec<_>>>()?;
    let offers = lists.iter().flatten().filter(|extension| extension.name == NAME);
    offers.filter_map(Terms::read).find_map(|terms| answer(&terms, own))
}

fn answer(offer: &Terms, own: &Deflate) -> Option<(Params, String)> {
    let bits = offer.server_bits.unwrap_or(MAX_BITS).min(own.window_bits);
    if bits < MIN_BITS {
        return None;
    }
    let wanted = offer.client_bits.map(|offered| offered.unwrap_or(MAX_BITS));
    let peer_bits = wanted.map_or(MAX_BITS, |wanted| wanted.min(own.peer_window_bits));
    // A client that names 8 may be left its 8, without a word.
    let peer_bits = if peer_bits < MIN_BITS { MAX_BITS } else { peer_bits };
    let keeps = own.keep_context && !offer.server_no_context;
    let peer_keeps = own.keep_peer_context && !offer.client_no_context;
    let told = Terms {
        server_no_context: !keeps,
        client_no_context: !peer_keeps,
        server_bits: (bits < MAX_BITS || offer.server_bits.is_some()).then_some(bits),
        client_bits: (peer_bits < MAX_BITS).then_some(Some(peer_bits)),
    };
    Some((Params { bits, keeps, peer_bits, peer_keeps }, told.write()))
}

/// What a client offers.
pub(crate) fn offer(own: &Deflate) -> String {
    offered(own).write()
}

fn offered(own: &Deflate) -> Terms {
    Terms {
        server_no_context: !own.keep_peer_context,
        client_no_context: !own.keep_context,
        server_bits: (own.peer_window_bits < MAX_BITS).then_some(own.peer_window_bits),
        client_bits: Some((own.window_bits < MAX_BITS).then_some(own.window_bits)),
    }
}

/// What a server has made of that offer; `Err` if it has agreed to something that was not offered.
pub(crate) fn check_answer<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    own: Option<&Deflate>,
) -> Result<Option<Params>, ()> {
    let lists = values.map(extension::parse).collect::<Option<Vec<_>>>().ok_or(())?;
    let mut extensions = lists.iter().flatten();
    let Some(extension) = extensions.next() else { return Ok(None) };
    let is_alone = extensions.next().is_none();
    let own = own.filter(|_| is_alone && extension.name == NAME).ok_or(())?;
    let (offer, terms) = (offered(own), Terms::read(extension).ok_or(())?);
    if offer.server_no_context && !terms.server_no_context {
        return Err(());
    }
    let peer_bits = match (offer.server_bits, terms.server_bits) {
        (Some(asked), Some(told)) if told <= asked => told,
        (Some(_), _) => return Err(()),
        (None, told) => told.unwrap_or(MAX_BITS),
    };
    let bits = match terms.client_bits {
        None => own.window_bits,
        Some(Some(told)) if told >= MIN_BITS => told.min(own.window_bits),
        Some(_) => return Err(()),
    };
    Ok(Some(Params {
        bits,
        keeps: own.keep_context && !terms.client_no_context,
        peer_bits,
        peer_keeps: !terms.server_no_context,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> Deflate {
        Deflate::default().keep_context(true).keep_peer_context(true)
    }

    fn agreed(offers: &[&str], own: &Deflate) -> Option<(Params, String)> {
        agree(offers.iter().map(|offer| offer.as_bytes()), own)
    }

    #[track_caller]
    fn expect(offer: &str, own: &Deflate, answer: Option<&str>) {
        let found = agreed(&[offer], own).map(|(_, text)| text);
        let expected = answer.map(|rest| format!("{NAME}{rest}"));
        assert_eq!(found, expected, "{offer}");
    }

    #[test]
    fn a_server_answers_what_it_keeps_to() {
        expect("permessage-deflate", &both(), Some(""));
        let none = "; server_no_context_takeover; client_no_context_takeover";
        expect("permessage-deflate", &Deflate::default(), Some(none));
        let offer = "permessage-deflate; server_no_context_takeover; server_max_window_bits=10";
        let told = "; server_no_context_takeover; server_max_window_bits=10";
        expect(offer, &both(), Some(told));
        let small = both().window_bits(11).peer_window_bits(12);
        expect("permessage-deflate", &small, Some("; server_max_window_bits=11"));
        let offer = "permessage-deflate; client_max_window_bits";
        let told = "; server_max_window_bits=11; client_max_window_bits=12";
        expect(offer, &small, Some(told));
        let offer = "permessage-deflate; client_max_window_bits=\"10\"";
        let told = "; server_max_window_bits=11; client_max_window_bits=10";
        expect(offer, &small, Some(told));
        expect("permessage-deflate; client_max_window_bits=8", &both(), Some(""));
    }

    #[test]
    fn an_offer_that_is_not_in_order_is_declined_and_the_next_one_taken() {
        for params in [
            "unknown",
            "server_no_context_takeover; server_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=10",
            "server_no_context_takeover=1",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=+9",
            "server_max_window_bits=8",
            "client_max_window_bits=99999999999999999999",
        ] {
            let offer = format!("permessage-deflate; {params}");
            expect(&offer, &both(), None);
            let two = format!("{offer}, permessage-deflate; server_max_window_bits=9");
            expect(&two, &both(), Some("; server_max_window_bits=9"));
        }
        expect("x-webkit-deflate-frame", &both(), None);
        assert_eq!(agreed(&["permessage-deflate", "a b"], &both()), None);
    }

    fn answered(answer: &str, own: Option<&Deflate>) -> Result<Option<Params>, ()> {
        check_answer([answer.as_bytes()].into_iter(), own)
    }

    #[test]
    fn a_client_takes_no_more_than_it_has_offered() {
        let own = both();
        let all = Params { bits: 15, keeps: true, peer_bits: 15, peer_keeps: true };
        assert_eq!(answered("", Some(&own)), Ok(None));
        assert_eq!(answered("permessage-deflate", Some(&own)), Ok(Some(all)));
        let told = "permessage-deflate; client_max_window_bits=9; client_no_context_takeover";
        let some = Params { bits: 9, keeps: false, ..all };
        assert_eq!(answered(told, Some(&own)), Ok(Some(some)));
        for wrong in [
            "foo",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; x",
            "permessage-deflate;",
        ] {
            assert_eq!(answered(wrong, Some(&own)), Err(()), "{wrong}");
        }
        assert_eq!(answered("permessage-deflate", None), Err(()));
        let strict = Deflate::default().peer_window_bits(10);
        assert_eq!(answered("permessage-deflate", Some(&strict)), Err(()));
        let told = "permessage-deflate; server_no_context_takeover; server_max_window_bits=";
        assert!(answered(&format!("{told}9"), Some(&strict)).is_ok());
        assert!(answered(&format!("{told}11"), Some(&strict)).is_err());
    }

    #[test]
    fn both_sides_understand_one_another() {
        for bits in 9..=15 {
            for peer_bits in 9..=15 {
                for flags in 0..16 {
                    let flag = |at: u8| flags >> at & 1 != 0;
                    let client = both().keep_context(flag(0)).keep_peer_context(flag(1));
                    let client = client.window_bits(bits).peer_window_bits(peer_bits);
                    let server = both().keep_context(flag(2)).keep_peer_context(flag(3));
                    let server = server.window_bits(peer_bits ^ 1).peer_window_bits(bits ^ 1);
                    let (told, text) = agreed(&[&offer(&client)], &server).unwrap();
                    let heard = answered(&text, Some(&client)).unwrap().unwrap();
                    assert!(heard.bits <= told.peer_bits && told.bits <= heard.peer_bits);
                    assert!(!heard.keeps || told.peer_keeps);
                    assert!(!told.keeps || heard.peer_keeps);
                }
            }
        }
    }
}
