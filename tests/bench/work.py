"""Interpreter work of the usual kinds: attribute access, dictionaries, strings, sorting, JSON, regular
expressions, big integers, generators. Prints what came out."""
import json
import re
import zlib


class Account:
    def __init__(self, name):
        self.name = name
        self.balance = 0
        self.history = []

    def post(self, amount):
        self.balance += amount
        if amount % 11 == 0:
            self.history.append((amount, self.balance))


def primes(limit):
    marked = bytearray(limit)
    for i in range(2, limit):
        if not marked[i]:
            yield i
            marked[i * i::i] = b"\1" * len(range(i * i, limit, i))


accounts = {name: Account(name) for name in ("alice", "bob", "carol", "dave")}
names = sorted(accounts)
for i in range(30000):
    accounts[names[i * 7 % 4]].post(i * 31 % 101 - 50)
text = json.dumps({a.name: [a.balance, a.history[:200]] for a in accounts.values()}, sort_keys=True)
back = json.loads(text)
words = re.findall(r"\b([a-z]+)\b", open(__file__).read().lower())
counts = {}
for w in words * 20:
    counts[w] = counts.get(w, 0) + 1
print(sum(primes(20000)), back["bob"][0], len(text), zlib.crc32(text.encode()))
print(sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:8])
print(str(3 ** 2500)[-40:], "%.12f" % sum(1 / (k * k) for k in range(1, 20000)))
