"""What plain mitmdump needs to pass a stream through as it comes; it is the yardstick of the benchmarks."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    assert flow.response
    flow.response.stream = True
