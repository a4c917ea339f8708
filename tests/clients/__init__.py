"""Contract tests with real clients, as they come from their registries: `make test-clients`.

    environments    where each client is installed, from which packages
    registry        the clients: their driver, the APIs they speak, the ways in, the error classes they raise
    install         `python -m tests.clients.install` makes the environments under `.clients/`
    drivers/        one small program per client, in the client's own environment
    driving         the test's end of the conversation with a driver
    programs        clients that are command-line programs and need no driver
    matrix          the table of results

The rule: a driver is written the way the client's own documentation shows, and is told where the proxy is by
environment variables alone. What needs more than that from its user is a bug of the proxy.
"""
