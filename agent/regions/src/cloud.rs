//! In which country a cloud's region is. By the providers' own documentation; what is not listed is not known, and an
//! address in it is denied until a version of this program knows the region.

use bailiwick_policy::Country;

/// The region names are those that the providers' range files had on this day (ISO 8601).
pub const AS_OF: &str = "2026-10-26";

/// The country of an AWS region, or of the zone that a `network_border_group` names: Local Zones and Wavelength Zones
/// may lie in another country than the region that they belong to.
#[must_use]
pub fn aws(group: &str) -> Option<Country> {
    find(AWS, group).or_else(|| {
        // `eu-north-1-hel-1`, `us-east-1-wl1-bos1`: the region, then the zone.
        let (region, zone) = AWS.iter().find_map(|(_, regions)| {
            let region = regions
                .split_ascii_whitespace()
                .find(|region| group.strip_prefix(region).is_some_and(|rest| rest.starts_with('-')))?;
            Some((region, group.get(region.len() + 1..)?))
        })?;
        if zone.starts_with("wl") {
            find(AWS, region).filter(|_| !WAVELENGTH_ABROAD.contains(&region))
        } else {
            city(zone)
        }
    })
}

/// The country of a GCP scope.
#[must_use]
pub fn gcp(scope: &str) -> Option<Country> {
    find(GCP, scope)
}

/// The country of an Azure region, by the short name that the service tags have.
#[must_use]
pub fn azure(region: &str) -> Option<Country> {
    find(AZURE, region)
}

/// The country of an OCI region.
#[must_use]
pub fn oracle(region: &str) -> Option<Country> {
    find(ORACLE, region)
}

/// A Local Zone's city, by the code in its name (`hel-1`).
fn city(zone: &str) -> Option<Country> {
    let (code, number) = zone.split_once('-')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    find(AWS_CITIES, code)
}

fn find(table: &[(&str, &str)], name: &str) -> Option<Country> {
    let (country, _) =
        table.iter().find(|(_, names)| names.split_ascii_whitespace().any(|listed| listed == name))?;
    Country::new(country).ok()
}

/// Regions with Wavelength Zones in another country (Casablanca, Dakar).
const WAVELENGTH_ABROAD: &[&str] = &["eu-west-3", "af-south-1"];

const AWS: &[(&str, &str)] = &[
    ("AE", "me-central-1"),
    ("AU", "ap-southeast-2 ap-southeast-4"),
    ("BH", "me-south-1"),
    ("BR", "sa-east-1"),
    ("CA", "ca-central-1 ca-west-1"),
    ("CH", "eu-central-2"),
    ("CL", "sa-west-1"),
    ("CN", "cn-north-1 cn-northwest-1"),
    ("DE", "eu-central-1 eusc-de-east-1"),
    ("ES", "eu-south-2"),
    ("FR", "eu-west-3"),
    ("GB", "eu-west-2"),
    ("HK", "ap-east-1"),
    ("ID", "ap-southeast-3"),
    ("IE", "eu-west-1"),
    ("IL", "il-central-1"),
    ("IN", "ap-south-1 ap-south-2"),
    ("IT", "eu-south-1"),
    ("JP", "ap-northeast-1 ap-northeast-3"),
    ("KR", "ap-northeast-2"),
    ("MX", "mx-central-1"),
    ("MY", "ap-southeast-5"),
    ("NZ", "ap-southeast-6"),
    ("SA", "me-west-1"),
    ("SE", "eu-north-1"),
    ("SG", "ap-southeast-1"),
    ("TH", "ap-southeast-7"),
    ("TW", "ap-east-2"),
    ("US", "us-east-1 us-east-2 us-west-1 us-west-2 us-gov-east-1 us-gov-west-1"),
    ("ZA", "af-south-1"),
];

const AWS_CITIES: &[(&str, &str)] = &[
    ("AR", "bue"),
    ("AU", "per"),
    ("CL", "scl"),
    ("DE", "ham"),
    ("DK", "cph"),
    ("FI", "hel"),
    ("IN", "ccu del"),
    ("MX", "qro"),
    ("NG", "los"),
    ("NZ", "akl"),
    ("OM", "mct"),
    ("PE", "lim"),
    ("PH", "mnl"),
    ("PL", "waw"),
    ("TH", "bkk"),
    ("TW", "tpe"),
    ("US", "atl bna bos chi den dfw hnl iah las lax mci mia msp nyc pdx phl phx sea"),
];

const GCP: &[(&str, &str)] = &[
    ("AU", "australia-southeast1 australia-southeast2"),
    ("BE", "europe-west1"),
    ("BR", "southamerica-east1"),
    ("CA", "northamerica-northeast1 northamerica-northeast2"),
    ("CH", "europe-west6"),
    ("CL", "southamerica-west1"),
    ("DE", "europe-west3 europe-west10"),
    ("ES", "europe-southwest1"),
    ("FI", "europe-north1"),
    ("FR", "europe-west9"),
    ("GB", "europe-west2"),
    ("HK", "asia-east2"),
    ("ID", "asia-southeast2"),
    ("IL", "me-west1"),
    ("IN", "asia-south1 asia-south2"),
    ("IT", "europe-west8 europe-west12"),
    ("JP", "asia-northeast1 asia-northeast2"),
    ("KR", "asia-northeast3"),
    ("MX", "northamerica-south1"),
    ("NL", "europe-west4"),
    ("PL", "europe-central2"),
    ("QA", "me-central1"),
    ("SA", "me-central2"),
    ("SE", "europe-north2"),
    ("SG", "asia-southeast1"),
    ("TH", "asia-southeast3"),
    ("TW", "asia-east1"),
    (
        "US",
        "us-central1 us-central2 us-east1 us-east4 us-east5 us-east7 us-south1 us-west1 us-west2 us-west3 us-west4 \
         us-west8",
    ),
    ("ZA", "africa-south1"),
];

const AZURE: &[(&str, &str)] = &[
    ("AE", "uaecentral uaenorth"),
    ("AT", "austriaeast"),
    ("AU", "australiacentral australiacentral2 australiaeast australiasoutheast"),
    ("BE", "belgiumcentral"),
    ("BR", "brazilne brazilse brazilsouth brazilsoutheast"),
    ("CA", "canadacentral canadaeast"),
    ("CH", "switzerlandn switzerlandnorth switzerlandw switzerlandwest"),
    ("CL", "chilec chilecentral"),
    ("CN", "chinaeast chinaeast2 chinaeast3 chinanorth chinanorth2 chinanorth3"),
    ("DE", "germanyn germanynorth germanywc germanywestcentral"),
    ("DK", "denmarkeast"),
    ("ES", "spaincentral"),
    ("FR", "centralfrance francecentral francesouth southfrance"),
    ("GB", "uksouth ukwest"),
    ("HK", "eastasia"),
    ("ID", "indonesiacentral"),
    ("IE", "northeurope"),
    ("IL", "israelcentral israelnorthwest"),
    ("IN", "centralindia indiasouthcentral jioindiacentral jioindiawest southindia westindia"),
    ("IT", "italynorth"),
    ("JP", "japaneast japanwest"),
    ("KR", "koreacentral koreasouth"),
    ("MX", "mexicocentral"),
    ("MY", "malaysiasouth malaysiawest"),
    ("NL", "westeurope"),
    ("NO", "norwaye norwayeast norwayw norwaywest"),
    ("NZ", "newzealandnorth"),
    ("PL", "polandcentral"),
    ("QA", "qatarcentral"),
    ("SE", "swedencentral swedensouth"),
    ("SG", "southeastasia"),
    ("TW", "taiwannorth taiwannorthwest"),
    (
        "US",
        "centralus centraluseuap eastus eastus2 eastus2euap eastus3 northcentralus northeastus5 southcentralus \
         southcentralus2 southeastus southeastus3 southeastus5 southwestus usdodcentral usdodeast usgovarizona \
         usgoviowa usgovtexas usgovvirginia usstagec usstagee westcentralus westus westus2 westus3",
    ),
    ("ZA", "southafricanorth southafricawest"),
];

const ORACLE: &[(&str, &str)] = &[
    ("AE", "me-abudhabi-1 me-dubai-1"),
    ("AU", "ap-melbourne-1 ap-sydney-1"),
    ("BR", "sa-riodejaneiro-2 sa-saopaulo-1 sa-vinhedo-1"),
    ("CA", "ca-montreal-1 ca-toronto-1"),
    ("CH", "eu-zurich-1"),
    ("CL", "sa-santiago-1 sa-valparaiso-1"),
    ("CO", "sa-bogota-1"),
    ("DE", "eu-frankfurt-1"),
    ("ES", "eu-madrid-1 eu-madrid-3"),
    ("FR", "eu-marseille-1 eu-paris-1"),
    ("GB", "uk-cardiff-1 uk-london-1"),
    ("ID", "ap-batam-1"),
    ("IE", "eu-dublin-3"),
    ("IL", "il-jerusalem-1"),
    ("IN", "ap-delhi-1 ap-hyderabad-1 ap-mumbai-1"),
    ("IT", "eu-milan-1"),
    ("JP", "ap-osaka-1 ap-tokyo-1"),
    ("KR", "ap-chuncheon-1 ap-seoul-1"),
    ("MA", "af-casablanca-1"),
    ("MX", "mx-monterrey-1 mx-queretaro-1"),
    ("MY", "ap-kulai-1"),
    ("NL", "eu-amsterdam-1"),
    ("RS", "eu-jovanovac-1"),
    ("SA", "me-jeddah-1 me-riyadh-1"),
    ("SE", "eu-stockholm-1"),
    ("SG", "ap-singapore-1 ap-singapore-2"),
    (
        "US",
        "us-abilene-1 us-ashburn-1 us-boardman-1 us-chicago-1 us-dallas-1 us-desmoines-1 us-lenexa-1 us-phoenix-1 \
         us-quincy-1 us-saltlake-2 us-sanantonio-1 us-sanjose-1 us-shawnee-1",
    ),
    ("ZA", "af-johannesburg-1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_one_country_and_what_is_not_listed_has_none() {
        for (table, called) in
            [(AWS, "aws"), (GCP, "gcp"), (AZURE, "azure"), (ORACLE, "oracle"), (AWS_CITIES, "cities")]
        {
            let mut names: Vec<&str> =
                table.iter().flat_map(|(_, names)| names.split_ascii_whitespace()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{called}: a region is listed twice");
            for (country, _) in table {
                assert!(Country::new(country).is_ok(), "{called}: {country}");
            }
        }
    }

    #[test]
    fn regions_are_where_their_providers_say() {
        for (country, expected, reason) in [
            (aws("eu-central-1"), Some("DE"), "Frankfurt"),
            (aws("eu-central-2"), Some("CH"), "Zurich: not every eu- region is in the EEA"),
            (aws("eu-west-2"), Some("GB"), "London"),
            (aws("eu-north-1-hel-1"), Some("FI"), "a Local Zone in another country than its region"),
            (aws("us-east-1-bue-1"), Some("AR"), "a Local Zone on another continent"),
            (aws("us-west-2-lax-1b"), None, "not the form of a zone group"),
            (aws("eu-central-1-wl1-ber"), Some("DE"), "a Wavelength Zone"),
            (aws("eu-west-3-wl1-cmn"), None, "the region has Wavelength Zones abroad"),
            (aws("eu-central-1-xyz-1"), None, "a city that is not listed"),
            (aws("eu-central-11"), None, "begins like a region"),
            (aws("GLOBAL"), None, "no region"),
            (aws(""), None, "nothing"),
            (gcp("europe-west6"), Some("CH"), "Zurich"),
            (gcp("europe-west15"), None, "not documented"),
            (azure("switzerlandn"), Some("CH"), "the service tags' short name"),
            (azure("northeurope2"), None, "not documented"),
            (oracle("eu-jovanovac-1"), Some("RS"), "eu- is not the Union"),
        ] {
            assert_eq!(country.as_ref().map(Country::as_str), expected, "{reason}");
        }
    }
}
