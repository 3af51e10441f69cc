"""The metrics of a server, as its operator scrapes them."""

import http.client

from prometheus_client.parser import text_string_to_metric_families

from tests.support.apiserver import Apiserver


def fetch(server: Apiserver, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Status, content type and body from the metrics port."""
    connection = http.client.HTTPConnection(*server.metrics_address, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def value(server: Apiserver, name: str, **labels: str) -> float:
    """The sample of this name with exactly these labels; 0 where there is none yet."""
    for family in text_string_to_metric_families(fetch(server, "/metrics")[2]):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0
