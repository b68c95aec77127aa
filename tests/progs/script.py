# Classes, generators, threads, regular expressions, JSON, compression, files, time, exceptions.
import collections, functools, hashlib, itertools, json, os, random, re, struct, sys, threading, time, zlib
import datetime, queue, select, signal, tempfile

def primes(n):
    composite = bytearray(n + 1)
    for i in range(2, n + 1):
        if not composite[i]:
            yield i
            composite[i * i::i] = b"\1" * len(range(i * i, n + 1, i))

print("primes", sum(1 for _ in primes(50000)))
print("json", json.dumps({"a": [1, 2.5, None, True], "b": {"c": "\u00e9"}}, sort_keys=True))
print("hash", hashlib.sha256(b"abc" * 1000).hexdigest()[:16], zlib.crc32(b"hello"))
print("regex", re.findall(r"(\w+)=(\d+)", "a=1, bc=22, d=x, e=3"))
print("struct", struct.pack("<IhQ", 1, -2, 3).hex())
print("counter", collections.Counter("mississippi").most_common(2))
print("lru", functools.lru_cache(None)(lambda n: n * 2)(21), list(itertools.islice(itertools.cycle("ab"), 5)))
random.seed(1)
print("random", random.randint(0, 1 << 30), round(random.random(), 12))

total, lock, work = 0, threading.Lock(), queue.Queue()

def worker():
    global total
    while (item := work.get()) is not None:
        with lock:
            total += item

threads = [threading.Thread(target=worker) for _ in range(4)]
[t.start() for t in threads]
[work.put(i) for i in range(2000)]
[work.put(None) for _ in threads]
[t.join() for t in threads]
print("threads", total)

with open("python.out", "w") as f:
    f.writelines(f"{i * i}\n" for i in range(3000))
with open("python.out") as f:
    print("file", sum(map(int, f)), os.path.getsize("python.out"), sorted(e.name for e in os.scandir("."))[:1] != [])
with tempfile.TemporaryFile() as f:
    f.write(zlib.compress(b"x" * 100000))
    f.seek(0)
    print("temporary", len(zlib.decompress(f.read())))
start = time.monotonic()
time.sleep(0.02)
print("slept", time.monotonic() - start >= 0.02, datetime.date(2024, 2, 28) + datetime.timedelta(days=2))
r, w = os.pipe()
os.write(w, b"piped")
print("select", select.select([r], [], [], 1)[0] == [r], os.read(r, 10))
hits = []
signal.signal(signal.SIGALRM, lambda *a: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.005)
while not hits:
    pass
print("alarm", hits)
try:
    {}["key"]
except KeyError as e:
    print("caught", repr(e))
try:
    (lambda f: f(f))(lambda f: f(f))
except RecursionError as e:
    print("deep", e)
try:
    bytearray(1 << 45)
except MemoryError:
    print("no memory")
print("stdin", sys.stdin.readline().strip(), sys.argv[1:])
sys.exit(6)
