//! `--subnet`, `--ip-range`, `--gateway` and `--aux-address` made one: each belongs to the subnet that it lies in.
//!
//! <https://github.com/docker/cli/blob/master/cli/command/network/create.go> (`createIPAMConfig`)

use std::net::IpAddr;

use havre_engine_types::{Ipam, IpamConfig, StringMap};
use havre_types::Cidr;

use super::BAD_FLAG;
use crate::failure::{Failure, Outcome};
use crate::flags::Matches;

/// The subnets that the flags ask for.
pub(super) fn of(matches: &Matches) -> Outcome<Ipam> {
    let driver = matches.text("ipam-driver").unwrap_or("default");
    let config = subnets(matches)?;
    Ok(Ipam {
        driver: driver.to_owned(),
        options: Some(super::map(matches, "ipam-opt")),
        config: Some(config),
    })
}

/// The values of a flag that may be repeated or have commas.
pub(super) fn split<'m>(matches: &'m Matches, flag: &str) -> impl Iterator<Item = &'m str> {
    let all: Vec<&str> = matches
        .list(flag)
        .flat_map(|text| text.split(','))
        .collect();
    all.into_iter()
}

/// The address in a flag.
pub(super) fn address(flag: &str, text: &str) -> Outcome<IpAddr> {
    text.trim().parse().map_err(|_no_address| {
        Failure::with_code(
            format!(
                "invalid argument {text:?} for \"--{flag}\" flag: failed to parse IP: {text:?}"
            ),
            BAD_FLAG,
        )
    })
}

fn range(text: &str) -> Outcome<Cidr> {
    text.trim().parse().map_err(|_no_network| {
        Failure::with_code(
            format!(
                "invalid argument {text:?} for \"--ip-range\" flag: invalid string being converted to CIDR: {text}"
            ),
            BAD_FLAG,
        )
    })
}

fn subnets(matches: &Matches) -> Outcome<Vec<IpamConfig>> {
    let ranges = split(matches, "ip-range").map(range);
    let ranges: Vec<Cidr> = ranges.collect::<Outcome<_>>()?;
    let gateways = split(matches, "gateway").map(|text| address("gateway", text));
    let gateways: Vec<IpAddr> = gateways.collect::<Outcome<_>>()?;
    let texts: Vec<&str> = split(matches, "subnet").collect();
    if texts.len() < ranges.len() || texts.len() < gateways.len() {
        return Err(Failure::new(
            "every ip-range or gateway must have a corresponding subnet",
        ));
    }
    let mut all = Vec::<(Cidr, IpamConfig)>::new();
    for text in texts {
        let subnet: Cidr = text
            .parse()
            .map_err(|error| Failure::new(format!("invalid subnet: {error}")))?;
        if all.iter().any(|(other, _)| other.overlaps(subnet)) {
            return Err(Failure::new(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        let config = IpamConfig {
            subnet: text.to_owned(),
            ..IpamConfig::default()
        };
        all.push((subnet, config));
    }
    for range in ranges {
        let config = of_subnet(&mut all, range.address(), &format!("range {range}"))?;
        if !config.ip_range.is_empty() {
            return Err(Failure::new(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                config.ip_range, config.subnet
            )));
        }
        config.ip_range = range.to_string();
    }
    for gateway in gateways {
        let config = of_subnet(&mut all, gateway, &format!("gateway {gateway}"))?;
        if !config.gateway.is_empty() {
            return Err(Failure::new(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                config.gateway, config.subnet
            )));
        }
        config.gateway = gateway.to_string();
    }
    for (name, text) in super::map(matches, "aux-address") {
        if text.is_empty() {
            continue;
        }
        let address: IpAddr = text
            .parse()
            .map_err(|_no_address| Failure::new(format!("invalid aux-address {text:?}")))?;
        let config = of_subnet(&mut all, address, &format!("aux-address {text}"))?;
        let others = config.aux_addresses.get_or_insert_with(StringMap::new);
        others.insert(name, address.to_string());
    }
    Ok(all.into_iter().map(|(_, config)| config).collect())
}

fn of_subnet<'c>(
    all: &'c mut [(Cidr, IpamConfig)],
    address: IpAddr,
    what: &str,
) -> Outcome<&'c mut IpamConfig> {
    let found = all.iter_mut().find(|(subnet, _)| subnet.contains(address));
    match found {
        Some((_, config)) => Ok(config),
        None => Err(Failure::new(format!("no matching subnet for {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;
    use crate::spec::{Found, find};

    fn read(line: &str) -> Outcome<Vec<IpamConfig>> {
        let words = ["network".to_owned(), "create".to_owned()];
        let Found::Command(command, _) = find(&words) else {
            panic!("network create is a command")
        };
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        subnets(&flags::parse(command.flags, &args, true).unwrap())
    }

    #[test]
    fn what_belongs_together_comes_together() {
        let found = read(
            "--subnet 10.1.0.0/16,10.2.0.0/16 --subnet fd00::/64 --gateway 10.2.0.9 --gateway fd00::9 --ip-range 10.1.4.0/24 \
             --aux-address a=10.1.0.5 --aux-address b=10.2.0.5 --aux-address c=fd00::5",
        )
        .unwrap();
        insta::assert_debug_snapshot!(found);
    }

    #[test]
    fn refusals_have_dockers_words() {
        for (line, text) in [
            (
                "--gateway 10.0.0.1",
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                "--subnet 10.0.0.0",
                "invalid subnet: invalid CIDR address: 10.0.0.0",
            ),
            (
                "--subnet 10.0.0.0/8 --subnet 10.1.0.0/16",
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                "--subnet 10.0.0.0/8 --gateway 11.0.0.1",
                "no matching subnet for gateway 11.0.0.1",
            ),
            (
                "--subnet 10.0.0.0/8,11.0.0.0/8 --gateway 10.0.0.1,10.0.0.2",
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/8)",
            ),
            (
                "--subnet 10.0.0.0/8 --ip-range 11.0.0.0/24",
                "no matching subnet for range 11.0.0.0/24",
            ),
            (
                "--subnet 10.0.0.0/8 --aux-address a=11.0.0.1",
                "no matching subnet for aux-address 11.0.0.1",
            ),
            (
                "--subnet 10.0.0.0/8 --gateway x",
                "invalid argument \"x\" for \"--gateway\" flag: failed to parse IP: \"x\"",
            ),
        ] {
            assert_eq!(read(line).unwrap_err().message, text, "{line}");
        }
    }
}
