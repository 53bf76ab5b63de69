use super::*;
use bailiwick_policy::{Evidence, Name};

/// Small files in each provider's own format, with addresses for documentation.
pub(crate) const AWS: &str = r#"{
  "syncToken": "1780272000",
  "createDate": "2026-06-01-00-00-00",
  "prefixes": [
    {"ip_prefix": "203.0.113.0/25", "region": "eu-central-1", "service": "AMAZON", "network_border_group": "eu-central-1"},
    {"ip_prefix": "203.0.113.0/25", "region": "eu-central-1", "service": "EC2", "network_border_group": "eu-central-1"},
    {"ip_prefix": "203.0.113.64/26", "region": "eu-north-1", "service": "EC2", "network_border_group": "eu-north-1-hel-1"},
    {"ip_prefix": "203.0.113.128/26", "region": "GLOBAL", "service": "CLOUDFRONT", "network_border_group": "GLOBAL"},
    {"ip_prefix": "203.0.113.192/26", "region": "xx-new-1", "service": "EC2", "network_border_group": "xx-new-1"}
  ],
  "ipv6_prefixes": [
    {"ipv6_prefix": "2001:db8:a::/48", "region": "us-east-1", "service": "AMAZON", "network_border_group": "us-east-1"},
    {"ipv6_prefix": "2001:db8:b::/48", "region": "eu-west-3", "service": "AMAZON"}
  ]
}
"#;
pub(crate) const GCP: &str = r#"{
  "syncToken": "1780272000123",
  "creationTime": "2026-06-02T04:05:06.789",
  "prefixes": [
    {"ipv4Prefix": "198.51.100.0/25", "service": "Google Cloud", "scope": "europe-west4"},
    {"ipv4Prefix": "198.51.100.128/25", "service": "Google Cloud", "scope": "global"},
    {"ipv6Prefix": "2001:db8:c::/48", "service": "Google Cloud", "scope": "us-central1"},
    {"ipv6Prefix": "2001:db8:d::/48"}
  ]
}"#;
pub(crate) const AZURE: &str = r#"{
  "changeNumber": 312,
  "cloud": "Public",
  "values": [
    {"name": "AzureCloud", "id": "AzureCloud", "properties": {"changeNumber": 9, "region": "", "regionId": 0,
      "platform": "Azure", "systemService": "", "addressPrefixes": ["192.0.2.0/25", "192.0.2.128/25", "2001:db8:e::/48"]}},
    {"name": "AzureCloud.westeurope", "id": "AzureCloud.westeurope", "properties": {"changeNumber": 9, "region": "westeurope",
      "regionId": 18, "platform": "Azure", "systemService": "", "addressPrefixes": ["192.0.2.0/25", "2001:db8:e::/48"]}},
    {"name": "ActionGroup", "id": "ActionGroup", "properties": {"changeNumber": 9, "region": "", "regionId": 0,
      "platform": "Azure", "systemService": "ActionGroup", "addressPrefixes": ["192.0.2.7/32"]}},
    {"name": "AzureFrontDoor.Frontend", "id": "AzureFrontDoor.Frontend", "properties": {"changeNumber": 9, "region": "",
      "regionId": 0, "platform": "Azure", "systemService": "AzureFrontDoor", "addressPrefixes": ["192.0.2.16/28"]}}
  ]
}"#;
pub(crate) const ORACLE: &str = r#"{
  "last_updated_timestamp": "2026-06-03T01:02:03.456789",
  "regions": [
    {"region": "eu-frankfurt-1", "cidrs": [{"cidr": "192.0.2.192/27", "tags": ["OCI"]}, {"cidr": "192.0.2.224/28", "tags": ["OSN"]}]},
    {"region": "eu-jovanovac-1", "cidrs": [{"cidr": "192.0.2.240/28", "tags": ["OCI"]}]}
  ]
}"#;
pub(crate) const CLOUDFLARE: &str = "198.51.100.0/24\r\n203.0.113.64/26\n\n2001:db8:cf::/48\n";

/// A MaxMind DB file of that IP version, with a record `{"country_code": …}` or `{"country": {"iso_code": …}}` a network.
pub(crate) fn table(ip_version: u16, networks: &[(&str, &str)]) -> Vec<u8> {
    let bits = |network: &str| -> (u128, u8) {
        match network.parse::<IpNet>().unwrap() {
            IpNet::V4(net) if ip_version == 6 => (u128::from(net.addr().to_bits()), net.prefix_len() + 96),
            IpNet::V4(net) => (u128::from(net.addr().to_bits()) << 96, net.prefix_len()),
            IpNet::V6(net) => (net.addr().to_bits(), net.prefix_len()),
        }
    };
    let text = |text: &str| [&[0x40 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let mut data = Vec::new();
    let mut offsets = Vec::new();
    for (index, (_, code)) in networks.iter().enumerate() {
        offsets.push(data.len());
        let record = if index % 2 == 0 {
            [vec![0xe1], text("country_code"), text(code)].concat()
        } else {
            [vec![0xe1], text("country"), vec![0xe1], text("iso_code"), text(code)].concat()
        };
        data.extend(record);
    }
    // A tree of nodes with two records each: None is empty, Err a leaf.
    let mut nodes: Vec<[Option<Result<usize, usize>>; 2]> = vec![[None, None]];
    for (index, (network, _)) in networks.iter().enumerate() {
        let (address, length) = bits(network);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(address >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[node][side] = Some(Err(index));
            } else if let Some(Ok(next)) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([None, None]);
                nodes[node][side] = Some(Ok(nodes.len() - 1));
                node = nodes.len() - 1;
            }
        }
    }
    let mut file = Vec::new();
    for node in &nodes {
        for record in node {
            let value = match record {
                None => nodes.len(),
                Some(Ok(node)) => *node,
                Some(Err(index)) => nodes.len() + 16 + offsets[*index],
            };
            file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
        }
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let number = |tag: u8, value: u32| [vec![tag], value.to_be_bytes().to_vec()].concat();
    let entries = [
        (text("binary_format_major_version"), vec![0xa1, 2]),
        (text("binary_format_minor_version"), vec![0xa0]),
        // An unsigned integer of 64 bits is of the extended type 9.
        (text("build_epoch"), [vec![0x04, 0x02], 1_780_272_000_u32.to_be_bytes().to_vec()].concat()),
        (text("database_type"), text("Test-Country")),
        (text("description"), [vec![0xe1], text("en"), text("made by a test")].concat()),
        (text("ip_version"), vec![0xa1, u8::try_from(ip_version).unwrap()]),
        (text("languages"), vec![0x00, 0x04]),
        (text("node_count"), number(0xc4, u32::try_from(nodes.len()).unwrap())),
        (text("record_size"), vec![0xa1, 24]),
    ];
    file.push(0xe0 | u8::try_from(entries.len()).unwrap());
    for (key, value) in entries {
        file.extend(key);
        file.extend(value);
    }
    file
}

fn countries() -> Vec<u8> {
    table(
        6,
        &[
            ("192.0.2.0/24", "NL"),
            ("198.51.100.0/25", "DE"),
            ("203.0.113.0/24", "ZZ"),
            ("2001:db8::/32", "FR"),
            ("2002::/16", "US"),
            ("fd00::/8", "US"),
        ],
    )
}

fn dataset(kind: Kind, bytes: &[u8]) -> Dataset {
    let info = DatasetInfo {
        name: Name::new("test").unwrap(),
        origin: kind.origin(),
        version: String::new(),
        date: "2026-06-01".to_owned(),
        sha256: String::new(),
    };
    read(kind, bytes).unwrap().dataset(info)
}

fn samples() -> [(Kind, Vec<u8>); 6] {
    [
        (Kind::Aws, AWS.into()),
        (Kind::Gcp, GCP.into()),
        (Kind::Azure, AZURE.into()),
        (Kind::Oracle, ORACLE.into()),
        (Kind::Cloudflare, CLOUDFLARE.into()),
        (Kind::Mmdb, countries()),
    ]
}

#[test]
fn each_format_says_where_its_networks_are() {
    let country = |code: &str| Place::Country(Country::new(code).unwrap());
    for (kind, address, network, place, reason) in [
        (Kind::Aws, "203.0.113.1", "203.0.113.0/25", Some(country("DE")), "two services, one region"),
        (Kind::Aws, "203.0.113.65", "203.0.113.64/26", Some(country("FI")), "a Local Zone, longer"),
        (Kind::Aws, "203.0.113.129", "203.0.113.128/26", Some(Place::Global), "GLOBAL"),
        (Kind::Aws, "203.0.113.193", "203.0.113.192/26", Some(Place::UnknownRegion), "a region that is new"),
        (Kind::Aws, "2001:db8:a::1", "2001:db8:a::/48", Some(country("US")), "IPv6"),
        (Kind::Aws, "2001:db8:b::1", "2001:db8:b::/48", Some(country("FR")), "no border group"),
        (Kind::Gcp, "198.51.100.1", "198.51.100.0/25", Some(country("NL")), "a scope"),
        (Kind::Gcp, "198.51.100.129", "198.51.100.128/25", Some(Place::Global), "global"),
        (Kind::Gcp, "2001:db8:c::1", "2001:db8:c::/48", Some(country("US")), "IPv6"),
        (Kind::Gcp, "2001:db8:d::1", "2001:db8:d::/48", Some(Place::NoRegion), "no scope"),
        (
            Kind::Azure,
            "192.0.2.1",
            "192.0.2.0/25",
            Some(country("NL")),
            "in a tag with and in one without a region",
        ),
        (
            Kind::Azure,
            "192.0.2.7",
            "192.0.2.0/25",
            Some(country("NL")),
            "a longer network without a region gives way",
        ),
        (Kind::Azure, "192.0.2.17", "192.0.2.16/28", Some(Place::Anycast), "Front Door does not"),
        (
            Kind::Azure,
            "192.0.2.129",
            "192.0.2.128/25",
            Some(Place::NoRegion),
            "in a tag without a region alone",
        ),
        (Kind::Azure, "2001:db8:e::1", "2001:db8:e::/48", Some(country("NL")), "IPv6"),
        (Kind::Oracle, "192.0.2.200", "192.0.2.192/27", Some(country("DE")), "a region"),
        (Kind::Oracle, "192.0.2.241", "192.0.2.240/28", Some(country("RS")), "eu- outside the Union"),
        (Kind::Cloudflare, "203.0.113.65", "203.0.113.64/26", Some(Place::Anycast), "all of it"),
        (Kind::Cloudflare, "2001:db8:cf::1", "2001:db8:cf::/48", Some(Place::Anycast), "IPv6"),
        (Kind::Mmdb, "192.0.2.1", "192.0.2.0/24", Some(country("NL")), "country_code"),
        (Kind::Mmdb, "198.51.100.1", "198.51.100.0/25", Some(country("DE")), "country.iso_code"),
        (Kind::Mmdb, "203.0.113.1", "203.0.113.0/24", Some(Place::UnknownRegion), "a code of no country"),
        (Kind::Mmdb, "2001:db8::1", "2001:db8::/32", Some(country("FR")), "IPv6"),
        (Kind::Mmdb, "2002::1", "", None, "6to4 is no place"),
        (Kind::Mmdb, "fd00::1", "", None, "nor is a local address"),
        (Kind::Mmdb, "198.51.100.129", "", None, "no record"),
    ] {
        let (_, bytes) = samples().into_iter().find(|(of, _)| *of == kind).unwrap();
        let found = dataset(kind, &bytes).at(address.parse().unwrap());
        let said = found.as_ref().map(|Evidence { network, claim, .. }| (network.to_string(), claim.place));
        assert_eq!(
            said,
            place.map(|place| (network.to_owned(), place)),
            "{} {address}: {reason}",
            kind.as_str()
        );
    }
    let v4 = table(4, &[("192.0.2.0/24", "NL"), ("198.51.100.0/24", "DE")]);
    let found = dataset(Kind::Mmdb, &v4).at("198.51.100.7".parse().unwrap()).unwrap();
    assert_eq!(found.claim.place, country("DE"), "a table of IPv4 alone");
}

#[test]
fn a_file_is_told_by_what_is_in_it_and_says_of_when_it_is() {
    for (kind, bytes) in samples() {
        assert_eq!(detect(&bytes), Ok(kind));
        let reading = read(kind, &bytes).unwrap();
        let date = reading.date.map(|date| date.to_string());
        let expected = match kind {
            Kind::Aws | Kind::Mmdb => Some("2026-06-01"),
            Kind::Gcp => Some("2026-06-02"),
            Kind::Oracle => Some("2026-06-03"),
            Kind::Azure | Kind::Cloudflare => None,
        };
        assert_eq!(date.as_deref(), expected, "{}", kind.as_str());
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_cure() {
    let v6 = |code: &str| table(6, &[("192.0.2.0/24", code)]);
    for (kind, bytes, said, reason) in [
        (
            Kind::Aws,
            AWS.replace("203.0.113.64/26", "203.0.113.65/26"),
            "prefixes[2].ip_prefix: \"203.0.113.65/26\": bits",
            "host bits",
        ),
        (
            Kind::Aws,
            AWS.replace("2001:db8:b::/48", "2001:db8:b::"),
            "ipv6_prefixes[1].ipv6_prefix",
            "an address",
        ),
        (Kind::Aws, AWS.replace("203.0.113.0/25", "0.0.0.0/0"), "holds every address", "everything"),
        (Kind::Aws, AWS.replace("\"region\": \"GLOBAL\", ", ""), "line 8, column", "a key is missing"),
        (Kind::Aws, AWS.replace("2026-06-01", "yesterday"), "createDate: \"yesterday", "not a date"),
        (
            Kind::Gcp,
            GCP.replace("\"ipv6Prefix\": \"2001:db8:d::/48\"", ""),
            "prefixes[3]: neither or both",
            "no network",
        ),
        (
            Kind::Gcp,
            GCP.replace("2001:db8:c::/48", "2001:db8:c::%eth0/48"),
            "prefixes[2].ipv6Prefix",
            "a scope",
        ),
        (
            Kind::Azure,
            AZURE.replace("192.0.2.7/32", "192.0.2.7/33"),
            "values[2].properties.addressPrefixes[0]",
            "too long",
        ),
        (Kind::Azure, AZURE.replace("312", "\"312\""), "line 2, column", "a number in quotes"),
        (
            Kind::Oracle,
            ORACLE.replace("192.0.2.240/28", "x\\u0007y"),
            "regions[1].cidrs[0].cidr: \"x\\u{7}y\"",
            "escaped",
        ),
        (
            Kind::Cloudflare,
            CLOUDFLARE.replace("203.0.113.64/26", "hello"),
            "line 2, column 1: \"hello\": not a network",
            "a word",
        ),
        (
            Kind::Aws,
            r#"{"syncToken":"1","createDate":"2026-06-01","prefixes":[],"ipv6_prefixes":[]}"#.to_owned(),
            "no network in it",
            "empty",
        ),
    ] {
        let error = read(kind, bytes.as_bytes()).err().unwrap_or_else(|| panic!("{reason}: it was read"));
        assert!(error.to_string().contains(said), "{reason}: {error}");
        assert!(!error.cure.is_empty(), "{reason}: {error}");
    }
    let mut organisations = v6("DE");
    let key = organisations.windows(12).position(|window| window == b"country_code").unwrap();
    organisations[key..key + 12].copy_from_slice(b"organisation");
    let error = read(Kind::Mmdb, &organisations).err().unwrap();
    assert!(error.message.contains("no record has a country"), "{error}");
    let mut loop_back = table(4, &[("192.0.2.0/24", "NL")]);
    // The root's right record points at the root.
    loop_back[3..6].copy_from_slice(&[0, 0, 0]);
    let error = read(Kind::Mmdb, &loop_back).err().unwrap();
    assert!(error.message.contains("turns back on itself") && error.spot.byte.is_some(), "{error}");
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused_with_the_place() {
    for (kind, bytes) in samples() {
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            if kind == Kind::Cloudflare {
                // Lines that are whole are a shorter list: the store compares it with the present one. Half a network
                // is none, or has bits beyond its prefix.
                match read(kind, cut) {
                    Ok(reading) => assert!(
                        cut.trim_ascii_end().len() >= CLOUDFLARE.find('\r').unwrap(),
                        "{length}: {}",
                        reading.networks()
                    ),
                    Err(error) => {
                        assert!(error.spot.line.is_some() || error.message.contains("no network"), "{error}")
                    }
                }
                continue;
            }
            if kind != Kind::Mmdb && bytes[length..].trim_ascii().is_empty() {
                continue;
            }
            let error = read(kind, cut)
                .err()
                .unwrap_or_else(|| panic!("{} was read from {length} bytes", kind.as_str()));
            assert!(
                error.spot.byte.is_some() || error.spot.line.is_some() || kind == Kind::Mmdb,
                "{length}: {error}"
            );
            assert!(error.spot.byte.is_none_or(|byte| byte <= length as u64), "{length}: {error}");
        }
    }
}

#[test]
fn no_byte_that_is_changed_breaks_the_reader() {
    for (kind, bytes) in samples() {
        for place in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[place] ^= flip;
                // Refused or read, never a panic and never an endless walk.
                let _ = read(kind, &changed);
                let _ = detect(&changed);
            }
        }
    }
}
