//! What it costs: microseconds of each step, printed with `--nocapture`. The bounds are for machines that do much else.

use std::time::{Duration, Instant};

use crate::support::{end, host, network, options, tcp, until};

use havre_network::Plane;

const ROUNDS: usize = 20;

/// The median of some runs.
fn median(mut runs: Vec<Duration>) -> Duration {
    runs.sort_unstable();
    runs[runs.len() / 2]
}

fn timed<T>(runs: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    runs.push(begin.elapsed());
    done
}

#[test]
fn a_container_from_the_pool_costs_little() {
    host(|| {
        let directory = tempfile::tempdir().unwrap();
        let plane = Plane::open(havre_network::PlaneOptions {
            pool: ROUNDS,
            ..options(directory.path())
        })
        .unwrap();
        let net = network("aaaaaaaaaaaa", "172.30.0.0/16");
        let begin = Instant::now();
        plane.add_network(&net).unwrap();
        println!("add_network: {:?}", begin.elapsed());
        until("the pool is full", || plane.ready() == ROUNDS);
        let [mut take, mut attach, mut publish, mut detach] = [const { Vec::new() }; 4];
        let mut kept = Vec::new();
        for round in 0..ROUNDS {
            let sandbox = timed(&mut take, || plane.sandbox().unwrap());
            let id = format!("e{round}");
            let spec = end(&net, &id, &format!("172.30.0.{}/16", round + 2));
            timed(&mut attach, || plane.attach(&sandbox, &spec).unwrap());
            let port = 8080 + u16::try_from(round).unwrap();
            let ports = [tcp("0.0.0.0", port, 80), tcp("::", port, 80)];
            timed(&mut publish, || plane.publish(&id, &ports).unwrap());
            kept.push((id, sandbox));
        }
        for (id, sandbox) in &kept {
            timed(&mut detach, || plane.detach(Some(sandbox), id).unwrap());
        }
        let attach = median(attach);
        println!("pool: take {:?}, attach {attach:?}", median(take));
        println!("publish {:?}, detach {:?}", median(publish), median(detach));
        // A container without the pool: everything is made while somebody waits.
        let plane = Plane::open(havre_network::PlaneOptions {
            pool: 0,
            instance: "havre-other".to_owned(),
            ..options(directory.path())
        })
        .unwrap();
        let net = network("bbbbbbbbbbbb", "172.31.0.0/16");
        plane.add_network(&net).unwrap();
        let [mut take, mut second] = [const { Vec::new() }; 2];
        for round in 0..ROUNDS {
            let sandbox = timed(&mut take, || plane.sandbox().unwrap());
            let spec = end(
                &net,
                &format!("f{round}"),
                &format!("172.31.0.{}/16", round + 2),
            );
            plane.attach(&sandbox, &spec).unwrap();
            let spec = end(
                &net,
                &format!("g{round}"),
                &format!("172.31.1.{}/16", round + 2),
            );
            timed(&mut second, || plane.attach(&sandbox, &spec).unwrap());
        }
        println!(
            "no pool: make {:?}, attach a second network {:?}",
            median(take),
            median(second)
        );
        assert!(attach < Duration::from_secs(1), "{attach:?}");
    });
}
