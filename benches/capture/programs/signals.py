# A profiler's timer: 200 signals in each second of work.
import signal

heard = 0


def hear(*_):
    global heard
    heard += 1


signal.signal(signal.SIGALRM, hear)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
total = 0
for i in range(40_000_000):
    total += i & 7
# As it ends, Python puts SIGALRM back to what kills.
signal.setitimer(signal.ITIMER_REAL, 0)
print(heard, total)
