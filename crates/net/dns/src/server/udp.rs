//! Queries by UDP: answered at once where the names are ours, so that nobody waits for anybody else's name server.

use std::os::fd::AsFd as _;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::task::yield_now;

use super::{Container, Shared, View, forward};
use crate::answer::{Carrier, Outcome, respond};

pub(super) async fn serve(shared: Rc<Shared>, container: Rc<Container>) {
    while container.udp.readable().await.is_ok() {
        take_batch(&shared, &container);
        // After one batch the others have their turn.
        yield_now().await;
    }
}

/// Takes what waits in the socket, up to a batch, and answers it.
fn take_batch(shared: &Rc<Shared>, container: &Rc<Container>) {
    let mut batch = shared.batch.borrow_mut();
    let socket = container.udp.as_fd();
    let received = container
        .udp
        .try_io(Interest::READABLE, || batch.receive(socket));
    if received.is_err() {
        return;
    }
    let view = View { shared, container };
    batch.answer_each(|packet, sender, answer| {
        match respond(packet, &view, Carrier::Udp, answer) {
            Outcome::Silence | Outcome::Answered => {}
            Outcome::Forward(query) => {
                if let Some(client) = sender.address() {
                    let asked = forward::Asked::new(&query, Carrier::Udp, client);
                    pass_on(shared, container, asked);
                }
            }
        }
    });
    // There is nobody else to tell.
    batch.send(socket).ok();
}

fn pass_on(shared: &Rc<Shared>, container: &Rc<Container>, asked: forward::Asked) {
    let (shared, serving) = (Rc::clone(shared), Rc::clone(container));
    container.work.spawn(async move {
        let client = asked.client();
        let answer = forward::forward(&shared, &serving, asked).await;
        drop(serving.udp.send_to(&answer, client).await);
    });
}
