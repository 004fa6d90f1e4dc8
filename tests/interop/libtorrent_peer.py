"""Runs libtorrent DHT nodes for the interop tests.

Reads one JSON request per line from stdin, writes one JSON answer per line to stdout, in any
order: {"id": 1, "op": "start", "node": 0, ...} is met by {"id": 1, "ok": {...}},
{"id": 1, "unsupported": "why"} or {"id": 1, "error": "what went wrong"}. Byte strings are hex,
addresses are "ip:port". It ends when stdin does. With INTEROP_TRACE set, every datagram and
what libtorrent logs about its DHT goes to stderr.
"""

import hashlib
import json
import os
import queue
import sys
import threading
import time

import libtorrent as lt

# No lookup may outlast this; the caller gives up somewhat later than two of them take. libtorrent
# itself waits 15 s for each node that does not answer.
TIMEOUT = 60.0
# libtorrent reports peers reply by reply and never says that a lookup ended: a lookup counts as
# finished when this long has passed without another reply that had peers in it.
QUIET = 0.7
# A lookup that finds nothing ends after this.
NO_PEERS = 5.0

CATEGORY = lt.alert.category_t
TRACE = "INTEROP_TRACE" in os.environ


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def settings(addr, bootstrap, read_only, defaults):
    mask = CATEGORY.error_notification | CATEGORY.status_notification
    mask |= CATEGORY.dht_notification | CATEGORY.dht_operation_notification
    if TRACE:
        mask |= CATEGORY.dht_log_notification
    if defaults:
        return {"alert_mask": int(mask), "dht_bootstrap_nodes": ",".join(bootstrap)}
    return {
        "alert_mask": int(mask),
        "listen_interfaces": addr,
        "dht_bootstrap_nodes": "",
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        # The nodes of a test all live in 127.0.0.0/8 and have ids that say nothing about it.
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_prefer_verified_node_ids": False,
        "dht_ignore_dark_internet": False,
        "dht_enforce_node_id": False,
        # By default 8,000 bytes of replies per second and 5 packets per second from one source.
        "dht_upload_rate_limit": 100_000_000,
        "dht_block_ratelimit": 1_000_000,
        "dht_read_only": read_only,
        "aio_threads": 1,
    }


class Node:
    """A session and the thread that hands its alerts to whoever waits for them."""

    def __init__(self, addr, bootstrap, read_only, defaults):
        self.addr = addr
        self.session = lt.session(settings(addr, bootstrap, read_only, defaults))
        self.lock = threading.Lock()
        self.waiters = []
        self.stopped = False
        self.listening = None
        ready = self.subscribe(listen_result)
        self.pump = threading.Thread(target=self.run, daemon=True)
        self.pump.start()
        failure = take(ready, TIMEOUT, "listen on " + addr)
        if failure:
            raise RuntimeError(failure)
        for contact in [] if defaults else bootstrap:
            self.session.add_dht_node(endpoint(contact))

    def run(self):
        while not self.stopped:
            self.session.wait_for_alert(500)
            # An alert is valid only until the next pop: everything is copied out here.
            for alert in self.session.pop_alerts():
                if TRACE and isinstance(alert, (lt.dht_pkt_alert, lt.dht_log_alert)):
                    line = "%.3f %s %s" % (time.monotonic(), self.addr, alert.message())
                    print(line, file=sys.stderr, flush=True)
                with self.lock:
                    waiters = list(self.waiters)
                for read, answers in waiters:
                    answer = read(alert)
                    if answer is not None:
                        answers.put(answer)

    def subscribe(self, read):
        answers = queue.Queue()
        with self.lock:
            self.waiters.append((read, answers))
        return answers

    def unsubscribe(self, answers):
        with self.lock:
            self.waiters = [waiter for waiter in self.waiters if waiter[1] is not answers]

    def ask(self, read, start, what):
        """Starts an operation and returns the first alert that `read` makes something of."""
        answers = self.subscribe(read)
        try:
            start()
            return take(answers, TIMEOUT, what)
        finally:
            self.unsubscribe(answers)

    def stop(self):
        self.stopped = True
        self.pump.join(TIMEOUT)
        del self.session


def take(answers, timeout, what):
    try:
        return answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError("no answer within %.0f s: %s" % (timeout, what)) from None


def listen_result(alert):
    if isinstance(alert, lt.listen_succeeded_alert) and "uTP" in alert.message():
        return ""
    if isinstance(alert, lt.listen_failed_alert):
        return alert.message()
    return None


def contacts(node, request):
    def read(alert):
        if isinstance(alert, lt.dht_stats_alert):
            return [bucket["num_nodes"] for bucket in alert.routing_table]
        return None

    return {"contacts": sum(node.ask(read, node.session.post_dht_stats, "post_dht_stats"))}


def add_node(node, request):
    node.session.add_dht_node(endpoint(request["addr"]))
    return {}


def announce(node, request):
    info_hash = lt.sha1_hash(bytes.fromhex(request["info_hash"]))
    # Bit 0 of the flags is `seed` (BEP 33). libtorrent never says how an announce went.
    node.session.dht_announce(info_hash, request["port"], 1 if request["seed"] else 0)
    return {}


def get_peers(node, request):
    raw = bytes.fromhex(request["info_hash"])

    def read(alert):
        if isinstance(alert, lt.dht_get_peers_reply_alert):
            if alert.info_hash.to_bytes() == raw:
                return [("[%s]:%d" if ":" in peer[0] else "%s:%d") % peer for peer in alert.peers()]
        return None

    replies = node.subscribe(read)
    found = []
    try:
        node.session.dht_get_peers(lt.sha1_hash(raw))
        patience = NO_PEERS
        while True:
            try:
                found += replies.get(timeout=patience)
                patience = QUIET
            except queue.Empty:
                return {"peers": sorted(set(found))}
    finally:
        node.unsubscribe(replies)


def put_immutable(node, request):
    value = bytes.fromhex(request["value"])
    target = hashlib.sha1(b"%d:%s" % (len(value), value)).digest()

    def read(alert):
        if isinstance(alert, lt.dht_put_alert) and alert.target.to_bytes() == target:
            return alert.num_success
        return None

    def start():
        made = node.session.dht_put_immutable_item(value).to_bytes()
        assert made == target, "libtorrent stores it under " + made.hex()

    return {"target": target.hex(), "stored": node.ask(read, start, "dht_put_alert")}


def get_immutable(node, request):
    target = bytes.fromhex(request["target"])

    def read(alert):
        if isinstance(alert, lt.dht_immutable_item_alert) and alert.target.to_bytes() == target:
            item = alert.item
            return item if isinstance(item, bytes) else b""
        return None

    def start():
        node.session.dht_get_immutable_item(lt.sha1_hash(target))

    value = node.ask(read, start, "dht_immutable_item_alert")
    # An item that was not found reads as an empty string.
    found = hashlib.sha1(b"%d:%s" % (len(value), value)).digest() == target
    return {"value": value.hex() if found else None}


def expanded_key(seed):
    """The 64 bytes libtorrent calls a private key: clamped scalar and prefix, from the seed."""
    digest = bytearray(hashlib.sha512(seed).digest())
    digest[0] &= 248
    digest[31] &= 127
    digest[31] |= 64
    return bytes(digest)


def put_mutable(node, request):
    if request.get("cas") is not None:
        return {"unsupported": "libtorrent's client never sends cas"}
    public_key = bytes.fromhex(request["public_key"])
    salt = bytes.fromhex(request["salt"])
    value = bytes.fromhex(request["value"])
    newest = get_mutable(node, request)["seq"] or 0
    if request["seq"] != newest + 1:
        return {"unsupported": "libtorrent always writes one more than the newest seq it finds"}

    def read(alert):
        if isinstance(alert, lt.dht_put_alert):
            if bytes(alert.public_key) == public_key and bytes(alert.salt) == salt:
                return alert.num_success, alert.seq
        return None

    def start():
        key = expanded_key(bytes.fromhex(request["seed"]))
        node.session.dht_put_mutable_item(key, public_key, value, salt)

    stored, seq = node.ask(read, start, "dht_put_alert")
    if seq != request["seq"]:
        raise RuntimeError("put seq %d, asked for %d" % (seq, request["seq"]))
    return {"stored": stored}


def get_mutable(node, request):
    public_key = bytes.fromhex(request["public_key"])
    salt = bytes.fromhex(request["salt"])

    def read(alert):
        if isinstance(alert, lt.dht_mutable_item_alert) and alert.authoritative:
            if bytes(alert.key) == public_key and bytes(alert.salt) == salt:
                item = alert.item
                return alert.seq, bytes(alert.signature), item if isinstance(item, bytes) else b""
        return None

    def start():
        node.session.dht_get_mutable_item(public_key, salt)

    seq, signature, value = node.ask(read, start, "authoritative dht_mutable_item_alert")
    if not any(signature):
        return {"seq": None, "value": None}
    return {"seq": seq, "value": value.hex()}


def sample(node, request):
    server = endpoint(request["addr"])
    if ":" in server[0]:
        return {"unsupported": "libtorrent sends no sample_infohashes over IPv6"}
    target = lt.sha1_hash(bytes.fromhex(request["target"]))

    def read(alert):
        if isinstance(alert, lt.dht_sample_infohashes_alert) and alert.endpoint == server:
            return {
                "samples": [sample.to_bytes().hex() for sample in alert.samples],
                "num": alert.num_infohashes,
                "interval": alert.interval.total_seconds(),
                "nodes": alert.num_nodes,
            }
        return None

    def start():
        node.session.dht_sample_infohashes(server, target)

    return node.ask(read, start, "dht_sample_infohashes_alert")


OPERATIONS = {
    "contacts": contacts,
    "add_node": add_node,
    "announce": announce,
    "get_peers": get_peers,
    "put_immutable": put_immutable,
    "get_immutable": get_immutable,
    "put_mutable": put_mutable,
    "get_mutable": get_mutable,
    "sample": sample,
}


class Worker:
    def __init__(self):
        self.nodes = {}
        self.output = threading.Lock()

    def answer(self, request):
        started = time.monotonic()
        try:
            reply = self.perform(request)
            if "unsupported" not in reply:
                reply = {"ok": reply}
        except Exception as failure:  # Whatever it is, the caller shall read it.
            spent = time.monotonic() - started
            reply = {"error": "%s: %s (after %.1f s)" % (type(failure).__name__, failure, spent)}
        reply["id"] = request["id"]
        with self.output:
            print(json.dumps(reply), flush=True)

    def perform(self, request):
        number = request["node"]
        if request["op"] == "start":
            start = [request[key] for key in ("addr", "bootstrap", "read_only", "defaults")]
            node = Node(*start)
            self.nodes[number] = node
            return {"version": lt.__version__}
        if request["op"] == "stop":
            self.nodes.pop(number).stop()
            return {}
        operation = OPERATIONS.get(request["op"])
        if operation is None:
            return {"unsupported": "the libtorrent bindings have no " + request["op"]}
        return operation(self.nodes[number], request)


def main():
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        threading.Thread(target=worker.answer, args=(request,), daemon=True).start()
    # Destructors of sessions take seconds and nobody waits for them.
    os._exit(0)


main()
