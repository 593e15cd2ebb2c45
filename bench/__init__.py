"""Benchmarks of wahub against plain Baileys on the same sandbox; `python -m bench --help`.

    machine.py       what the figures were measured on; CPU time and memory of processes from /proc
    processes.py     the sandbox, the gateway and the yardstick as child processes
    http_client.py   a light HTTP client, because its CPU time is taken from the same cores
    stage.py         sandbox, gateway and yardstick together: phones, linked accounts, the trace
    throughput.py    messages per second, ten accounts at the same time
    latency.py       from the request to the server's ack, one message at a time
    memory.py        memory of linked accounts that do nothing
    accepts.py       what accepting costs: beside an endpoint, at a steady rate, with a full store
    restore.py       how fast linked accounts are back after a restart, and whether the gateway answers meanwhile
    inbound.py       received messages: from the socket to the webhook, and per second
    inbound_report.py  its table
    town.py          the sandbox with somebody inside who writes on behalf of its phones
    dispatcher.py    webhooks of many endpoints, some of which hang
    hooks.py         receivers of webhooks
    store.py         transactions per second of the store alone
    pulse.py         `/health` at a steady rate
    endpoint.py      the yardstick of accepting
    load.py          bursts and steady load over HTTP
    shop.py          one account with a gateway and a store of its own, which can be filled
    report.py        statistics, the verdicts and the tables
    plain_baileys.mjs  the yardstick

Everything is driven by public interfaces: the commands, the HTTP API and the sandbox's control API; but
`shop.py` fills its stores directly, `inbound.py` looks into the event log, and `town.py` sits inside the sandbox.
"""
