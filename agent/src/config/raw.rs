//! Mirrors the file, nothing more: what is written where, before anything is asked about what it means.

use super::reader::Need::{Optional, Required};
use super::reader::{NamedStrings, Table};
use super::report::{At, Place};

type Text = Option<At<String>>;
type Texts = Option<At<Vec<At<String>>>>;
type Number = Option<At<i128>>;
type Flag = Option<At<bool>>;
type Integers = Option<At<Vec<At<i128>>>>;

pub(super) struct Config {
    pub(super) host: Option<Host>,
    pub(super) regions: Vec<Region>,
    pub(super) datasets: Option<Datasets>,
    pub(super) models: Vec<Model>,
    pub(super) workloads: Vec<Workload>,
    pub(super) proxy: Option<Proxy>,
    pub(super) issuers: Vec<Issuer>,
    pub(super) access: Vec<Access>,
    pub(super) masks: Vec<Mask>,
    pub(super) audit: Option<Audit>,
    pub(super) metrics: Option<Metrics>,
    pub(super) traces: Option<Traces>,
}

pub(super) struct Traces {
    pub(super) endpoint: Text,
    pub(super) region: Text,
    pub(super) ca: Text,
}

pub(super) struct Metrics {
    pub(super) listen: Text,
    pub(super) reason: Text,
}

pub(super) struct Host {
    pub(super) name: Text,
    pub(super) region: Text,
    pub(super) accept: Texts,
}

pub(super) struct Region {
    pub(super) place: Place,
    pub(super) name: At<String>,
    pub(super) countries: Texts,
    pub(super) networks: Texts,
    /// Neither key was written.
    pub(super) is_blank: bool,
}

pub(super) struct Datasets {
    pub(super) directory: Text,
    pub(super) max_age: Option<At<i128>>,
    pub(super) require: Texts,
}

pub(super) struct Model {
    pub(super) name: Text,
    pub(super) slice: Text,
    pub(super) port: Option<At<i128>>,
    pub(super) socket: Text,
    pub(super) server: Text,
    pub(super) credential: Text,
    pub(super) fetch_urls: Flag,
    pub(super) peers: Vec<Peer>,
    pub(super) egress: Option<Egress>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) health: Option<Health>,
}

pub(super) struct Upstream {
    pub(super) name: Text,
    pub(super) slice: Text,
    pub(super) port: Number,
    pub(super) socket: Text,
    pub(super) credential: Text,
    pub(super) backup: Flag,
    /// A key that names another host, which this file cannot.
    pub(super) elsewhere: Text,
}

pub(super) struct Health {
    pub(super) path: Text,
    pub(super) interval: Number,
    pub(super) timeout: Number,
    pub(super) fall: Number,
    pub(super) rise: Number,
}

pub(super) struct Peer {
    pub(super) network: Text,
    pub(super) ports: Integers,
    pub(super) reason: Text,
}

pub(super) struct Workload {
    pub(super) place: Place,
    pub(super) name: Text,
    pub(super) unit: Text,
    pub(super) slice: Text,
    pub(super) egress: Option<Egress>,
    /// Neither unit nor slice was written.
    pub(super) is_blank: bool,
}

pub(super) struct Egress {
    pub(super) mode: Text,
    pub(super) regions: Texts,
    pub(super) allow: Vec<Exception>,
}

pub(super) struct Exception {
    pub(super) network: Text,
    pub(super) port: Option<At<i128>>,
    pub(super) reason: Text,
}

pub(super) struct Proxy {
    pub(super) listen: Text,
    pub(super) certificate: Text,
    pub(super) key: Text,
    pub(super) max_body: Option<At<i128>>,
    pub(super) on_removal: Text,
    pub(super) ping: Number,
    pub(super) clients: Option<Clients>,
    pub(super) identity: Option<Identity>,
}

pub(super) struct Clients {
    pub(super) authorities: Text,
    pub(super) revoked: Text,
    pub(super) require: Flag,
    pub(super) identify: Flag,
}

pub(super) struct Identity {
    pub(super) action: Text,
    pub(super) fields: Texts,
}

pub(super) struct Issuer {
    pub(super) url: Text,
    pub(super) audience: Text,
    pub(super) groups: Text,
    pub(super) region: Text,
    pub(super) ca: Text,
    pub(super) leeway: Number,
    pub(super) clients: Texts,
    pub(super) kind: Text,
    pub(super) bound: Flag,
    pub(super) refresh: Number,
    pub(super) introspection: Option<Introspection>,
}

pub(super) struct Introspection {
    pub(super) place: Place,
    pub(super) endpoint: Text,
    pub(super) client: Text,
    pub(super) secret: Text,
    pub(super) remember: Number,
}

pub(super) struct Access {
    pub(super) name: Text,
    pub(super) issuer: Text,
    pub(super) subjects: Texts,
    pub(super) groups: Texts,
    pub(super) claims: NamedStrings,
    pub(super) certificates: Texts,
    pub(super) models: Texts,
    pub(super) from: Texts,
    pub(super) from_claim: Text,
    pub(super) endpoints: Texts,
    pub(super) when: Option<When>,
    pub(super) limits: Option<Limits>,
    pub(super) request_masks: Texts,
    pub(super) response_masks: Texts,
}

pub(super) struct When {
    pub(super) place: Place,
    pub(super) days: Texts,
    pub(super) hours: Text,
    pub(super) offset: Text,
}

pub(super) struct Limits {
    pub(super) requests_per_minute: Number,
    pub(super) streams: Number,
    pub(super) tokens_per_minute: Number,
    pub(super) tokens_per_day: Number,
    pub(super) max_body: Number,
    pub(super) max_tokens: Number,
}

pub(super) struct Mask {
    pub(super) place: Place,
    pub(super) name: Text,
    pub(super) entities: Texts,
    pub(super) fields: Texts,
    pub(super) action: Text,
    /// Neither entities nor fields were written.
    pub(super) is_blank: bool,
}

pub(super) struct Audit {
    pub(super) directory: Text,
}

impl Config {
    pub(super) fn read(mut root: Table<'_>) -> Self {
        let config = Self {
            host: root.table("host", Required).map(Host::read),
            regions: root
                .named_tables("regions")
                .into_iter()
                .map(|(name, table)| Region::read(name, table))
                .collect(),
            datasets: root.table("datasets", Optional).map(Datasets::read),
            models: root.tables("model").into_iter().map(Model::read).collect(),
            workloads: root.tables("workload").into_iter().map(Workload::read).collect(),
            proxy: root.table("proxy", Required).map(Proxy::read),
            issuers: root.tables("issuer").into_iter().map(Issuer::read).collect(),
            access: root.tables("access").into_iter().map(Access::read).collect(),
            masks: root.tables("mask").into_iter().map(Mask::read).collect(),
            audit: root.table("audit", Required).map(Audit::read),
            metrics: root.table("metrics", Optional).map(Metrics::read),
            traces: root.table("traces", Optional).map(Traces::read),
        };
        root.finish();
        config
    }
}

impl Host {
    fn read(mut table: Table<'_>) -> Self {
        let host = Self {
            name: table.string("name", Optional),
            region: table.string("region", Required),
            accept: table.strings("accept", Optional),
        };
        table.finish();
        host
    }
}

impl Region {
    fn read(name: At<String>, mut table: Table<'_>) -> Self {
        let region = Self {
            is_blank: !table.has("countries") && !table.has("networks"),
            place: table.place(),
            name,
            countries: table.strings("countries", Optional),
            networks: table.strings("networks", Optional),
        };
        table.finish();
        region
    }
}

impl Datasets {
    fn read(mut table: Table<'_>) -> Self {
        let datasets = Self {
            directory: table.string("directory", Optional),
            max_age: table.integer("max_age", Optional),
            require: table.strings("require", Optional),
        };
        table.finish();
        datasets
    }
}

impl Model {
    fn read(mut table: Table<'_>) -> Self {
        let model = Self {
            name: table.string("name", Required),
            slice: table.string("slice", Required),
            // One of the two: the port is asked for when neither is there.
            port: table.integer("port", if table.has("socket") { Optional } else { Required }),
            socket: table.string("socket", Optional),
            server: table.string("server", Required),
            credential: table.secret("credential", Optional),
            fetch_urls: table.boolean("fetch_urls", Optional),
            peers: table.tables("peer").into_iter().map(Peer::read).collect(),
            egress: table.table("egress", Optional).map(Egress::read),
            upstreams: table.tables("upstream").into_iter().map(Upstream::read).collect(),
            health: table.table("health", Optional).map(Health::read),
        };
        table.finish();
        model
    }
}

impl Upstream {
    fn read(mut table: Table<'_>) -> Self {
        let mut elsewhere = None;
        for key in ["address", "host", "url"] {
            if table.has(key) {
                elsewhere = table.string(key, Optional).or(elsewhere);
            }
        }
        let here = if table.has("socket") || elsewhere.is_some() { Optional } else { Required };
        let upstream = Self {
            name: table.string("name", Required),
            slice: table.string("slice", if elsewhere.is_some() { Optional } else { Required }),
            port: table.integer("port", here),
            socket: table.string("socket", Optional),
            credential: table.secret("credential", Optional),
            backup: table.boolean("backup", Optional),
            elsewhere,
        };
        table.finish();
        upstream
    }
}

impl Health {
    fn read(mut table: Table<'_>) -> Self {
        let health = Self {
            path: table.string("path", Optional),
            interval: table.integer("interval", Optional),
            timeout: table.integer("timeout", Optional),
            fall: table.integer("fall", Optional),
            rise: table.integer("rise", Optional),
        };
        table.finish();
        health
    }
}

impl Traces {
    fn read(mut table: Table<'_>) -> Self {
        let traces = Self {
            endpoint: table.string("endpoint", Required),
            region: table.string("region", Required),
            ca: table.string("ca", Optional),
        };
        table.finish();
        traces
    }
}

impl Metrics {
    fn read(mut table: Table<'_>) -> Self {
        let metrics =
            Self { listen: table.string("listen", Required), reason: table.string("reason", Optional) };
        table.finish();
        metrics
    }
}

impl Peer {
    fn read(mut table: Table<'_>) -> Self {
        let peer = Self {
            network: table.string("network", Required),
            ports: table.integers("ports", Required),
            reason: table.string("reason", Required),
        };
        table.finish();
        peer
    }
}

impl Workload {
    fn read(mut table: Table<'_>) -> Self {
        let workload = Self {
            is_blank: !table.has("unit") && !table.has("slice"),
            place: table.place(),
            name: table.string("name", Required),
            unit: table.string("unit", Optional),
            slice: table.string("slice", Optional),
            egress: table.table("egress", Optional).map(Egress::read),
        };
        table.finish();
        workload
    }
}

impl Egress {
    fn read(mut table: Table<'_>) -> Self {
        let egress = Self {
            mode: table.string("mode", Optional),
            regions: table.strings("regions", Optional),
            allow: table.tables("allow").into_iter().map(Exception::read).collect(),
        };
        table.finish();
        egress
    }
}

impl Exception {
    fn read(mut table: Table<'_>) -> Self {
        let exception = Self {
            network: table.string("network", Required),
            port: table.integer("port", Optional),
            reason: table.string("reason", Required),
        };
        table.finish();
        exception
    }
}

impl Proxy {
    fn read(mut table: Table<'_>) -> Self {
        let listen = table.string("listen", Required);
        let mut tls = table.table("tls", Required);
        let file = |tls: &mut Option<Table<'_>>, key| tls.as_mut().and_then(|tls| tls.string(key, Required));
        let proxy = Self {
            listen,
            certificate: file(&mut tls, "certificate"),
            key: file(&mut tls, "key"),
            max_body: table.integer("max_body", Optional),
            on_removal: table.string("on_removal", Optional),
            ping: table.integer("ping", Optional),
            clients: table.table("clients", Optional).map(Clients::read),
            identity: table.table("identity", Optional).map(Identity::read),
        };
        if let Some(tls) = tls {
            tls.finish();
        }
        table.finish();
        proxy
    }
}

impl Clients {
    fn read(mut table: Table<'_>) -> Self {
        let clients = Self {
            authorities: table.string("authorities", Required),
            revoked: table.string("revoked", Optional),
            require: table.boolean("require", Optional),
            identify: table.boolean("identify", Optional),
        };
        table.finish();
        clients
    }
}

impl Identity {
    fn read(mut table: Table<'_>) -> Self {
        let identity =
            Self { action: table.string("action", Optional), fields: table.strings("fields", Optional) };
        table.finish();
        identity
    }
}

impl Issuer {
    fn read(mut table: Table<'_>) -> Self {
        let issuer = Self {
            url: table.string("url", Required),
            audience: table.string("audience", Required),
            groups: table.string("groups", Optional),
            region: table.string("region", Required),
            ca: table.string("ca", Optional),
            leeway: table.integer("leeway", Optional),
            clients: table.strings("clients", Optional),
            kind: table.string("type", Optional),
            bound: table.boolean("bound", Optional),
            refresh: table.integer("refresh", Optional),
            introspection: table.table("introspection", Optional).map(Introspection::read),
        };
        table.finish();
        issuer
    }
}

impl Introspection {
    fn read(mut table: Table<'_>) -> Self {
        let introspection = Self {
            place: table.place(),
            endpoint: table.string("endpoint", Optional),
            client: table.string("client", Required),
            secret: table.secret("secret", Required),
            remember: table.integer("remember", Optional),
        };
        table.finish();
        introspection
    }
}

impl Access {
    fn read(mut table: Table<'_>) -> Self {
        let (name, issuer) = (table.string("name", Required), table.string("issuer", Optional));
        let (subjects, groups) = (table.strings("subjects", Optional), table.strings("groups", Optional));
        let claims = table.named_strings("claims");
        let certificates = table.strings("certificates", Optional);
        let models = table.strings("models", Required);
        let (from, from_claim) = (table.strings("from", Optional), table.string("from_claim", Optional));
        let endpoints = table.strings("endpoints", Optional);
        let when = table.table("when", Optional).map(When::read);
        let limits = table.table("limits", Optional).map(Limits::read);
        let mut mask = table.table("mask", Optional);
        let side =
            |mask: &mut Option<Table<'_>>, key| mask.as_mut().and_then(|mask| mask.strings(key, Optional));
        let (request_masks, response_masks) = (side(&mut mask, "request"), side(&mut mask, "response"));
        if let Some(mask) = mask {
            mask.finish();
        }
        table.finish();
        Self {
            name,
            issuer,
            subjects,
            groups,
            claims,
            certificates,
            models,
            from,
            from_claim,
            endpoints,
            when,
            limits,
            request_masks,
            response_masks,
        }
    }
}

impl When {
    fn read(mut table: Table<'_>) -> Self {
        let when = Self {
            place: table.place(),
            days: table.strings("days", Optional),
            hours: table.string("hours", Optional),
            offset: table.string("offset", Optional),
        };
        table.finish();
        when
    }
}

impl Limits {
    fn read(mut table: Table<'_>) -> Self {
        let limits = Self {
            requests_per_minute: table.integer("requests_per_minute", Optional),
            streams: table.integer("streams", Optional),
            tokens_per_minute: table.integer("tokens_per_minute", Optional),
            tokens_per_day: table.integer("tokens_per_day", Optional),
            max_body: table.integer("max_body", Optional),
            max_tokens: table.integer("max_tokens", Optional),
        };
        table.finish();
        limits
    }
}

impl Mask {
    fn read(mut table: Table<'_>) -> Self {
        let mask = Self {
            is_blank: !table.has("entities") && !table.has("fields"),
            place: table.place(),
            name: table.string("name", Required),
            entities: table.strings("entities", Optional),
            fields: table.strings("fields", Optional),
            action: table.string("action", Required),
        };
        table.finish();
        mask
    }
}

impl Audit {
    fn read(mut table: Table<'_>) -> Self {
        let audit = Self { directory: table.string("directory", Required) };
        table.finish();
        audit
    }
}
