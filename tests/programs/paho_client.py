"""Paho's client at the broker: QoS 1 both ways, a will, a takeover, keep-alive, malformed packets.

Arguments: the port, `tcp` or `websockets`, and a certificate for TLS.
"""

import queue
import socket
import ssl
import sys
import time

import paho.mqtt.client as mqtt

PORT, TRANSPORT = int(sys.argv[1]), sys.argv[2]
CA = sys.argv[3] if len(sys.argv) > 3 else None


def connect(name, will=None, keepalive=60):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, transport=TRANSPORT)
    client.connect_timeout = 60  # a busy machine is slow with handshakes
    client.messages, client.subscribed, client.gone = queue.Queue(), queue.Queue(), queue.Queue()
    client.on_message = lambda _c, _u, message: client.messages.put(
        (message.topic, message.payload, message.qos)
    )
    client.on_subscribe = lambda *_: client.subscribed.put(True)
    client.on_disconnect = lambda *_: client.gone.put(True)
    if will:
        client.will_set(*will)
    if CA:
        client.tls_set(CA)
    client.connect("localhost", PORT, keepalive)
    client.loop_start()
    return client


def subscribe(client, topic, qos=1):
    client.subscribe(topic, qos)
    client.subscribed.get(timeout=60)


listener = connect("listener")
subscribe(listener, "#")
while True:  # what is retained
    topic, _, _ = listener.messages.get(timeout=60)
    if topic == "weather/rain":
        break

sender = connect("sender", will=("wills/sender", b"gone", 1))
for number in range(500):
    info = sender.publish("count", str(number), qos=number % 2)
info.wait_for_publish(60)
# Paho holds back QoS 1 beyond 20 under way, and not QoS 0: each has an order of its own.
got = [listener.messages.get(timeout=60) for _ in range(500)]
for qos in (0, 1):
    numbers = [int(payload) for _, payload, its in got if its == qos]
    assert numbers == list(range(qos, 500, 2)), (qos, numbers)

# A large one, and one to itself.
large = bytes(200_000)
sender.publish("large", large, qos=1).wait_for_publish(60)
assert listener.messages.get(timeout=60) == ("large", large, 1)
subscribe(sender, "own", 0)
sender.publish("own", b"me", qos=1)
assert sender.messages.get(timeout=60) == ("own", b"me", 0)
listener.messages.get(timeout=60)

# The same name again ends the first, whose will is published. The first must not come back.
sender.reconnect_delay_set(60, 60)
again = connect("sender")
sender.gone.get(timeout=60)
assert listener.messages.get(timeout=60) == ("wills/sender", b"gone", 1)
again.disconnect()

# A goodbye has no will.
polite = connect("polite", will=("wills/polite", b"gone", 1))
subscribe(polite, "nothing")
polite.disconnect()
polite.gone.get(timeout=60)

listener.unsubscribe("#")
time.sleep(0.2)
other = connect("other")
other.publish("count", b"unheard", qos=1).wait_for_publish(60)
assert listener.messages.empty(), listener.messages.get()

# What is no MQTT is let go; what could be the beginning of some, after ten seconds.
for bad in [b"HEAD / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff", b"\x30\x02\x00\x00", b"\x10\x02\x00\x09"]:
    raw = socket.create_connection(("localhost", PORT))
    if CA:
        raw = ssl.create_default_context(cafile=CA).wrap_socket(raw, server_hostname="localhost")
    raw.settimeout(60)
    raw.sendall(bad)
    try:
        assert raw.recv(1) == b"", bad
    except (ConnectionResetError, ssl.SSLError):
        pass
    raw.close()
for client in (listener, again, other, sender):
    client.loop_stop()
