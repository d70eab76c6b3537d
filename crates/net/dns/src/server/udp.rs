//! Queries by UDP: answered at once where the names are ours, so that nobody waits for anybody else's name server.

use std::io::ErrorKind;
use std::rc::Rc;

use tokio::task::yield_now;

use super::{Container, Scratch, Shared, View, forward};
use crate::answer::{Carrier, Outcome, respond};

/// Queries of one container that are taken in one turn; then the others have theirs.
const TURN: usize = 64;

pub(super) async fn serve(shared: Rc<Shared>, container: Rc<Container>) {
    while container.udp.readable().await.is_ok() {
        let mut left = TURN;
        while left > 0 && take_one(&shared, &container) {
            left -= 1;
        }
        yield_now().await;
    }
}

/// Takes one query from the socket; false when there is none.
fn take_one(shared: &Rc<Shared>, container: &Rc<Container>) -> bool {
    let mut scratch = shared.scratch.borrow_mut();
    let Scratch { input, output } = &mut *scratch;
    let (packet, client) = match container.udp.try_recv_from(input) {
        Ok((count, client)) => (input.get(..count).unwrap_or_default(), client),
        Err(error) => return error.kind() != ErrorKind::WouldBlock,
    };
    match respond(packet, &View { shared, container }, Carrier::Udp, output) {
        Outcome::Silence => {}
        Outcome::Answered => {
            // A client that has no room loses the answer, as on any network, and asks again.
            drop(container.udp.try_send_to(output, client));
        }
        Outcome::Forward(query) => {
            let asked = forward::Asked::new(&query, Carrier::Udp, client);
            let (shared, container) = (Rc::clone(shared), Rc::clone(container));
            let serving = Rc::clone(&container);
            container.work.spawn(async move {
                let answer = forward::forward(&shared, &serving, asked).await;
                drop(serving.udp.send_to(&answer, client).await);
            });
        }
    }
    true
}
