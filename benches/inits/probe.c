/* The program that the inits start in the bench, static and small so that its own start-up is short and even.
   What it sees it writes, with the time of CLOCK_MONOTONIC, onto a board: a file that the bench has mapped too. A board has a
   path because some inits close the descriptors they inherit.

   exit BOARD                          stamp main, end
   serve BOARD                         stamp each SIGUSR1; SIGTERM ends it, status 0
   default BOARD                       wait, with every signal's default action
   storm BOARD ORPHANS                 make orphans one after the other, stamp the last, wait
   leave-in-storm BOARD ORPHANS        end with status 42 while a helper goes on making orphans
   serve-in-storm BOARD ORPHANS        the same, at SIGTERM
   write BOARD BLOCKS                  that many numbered blocks of 4 KiB to stderr
   crash BOARD THREADS MIB             touch the memory, start the threads; at SIGUSR1 write to address 0 */
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The same in board.rs. */
struct board {
    _Atomic uint32_t bell;
    _Atomic uint32_t orphans;
    _Atomic uint64_t exec_ns, main_ns, signal_ns, done_ns;
};
static struct board *board;

enum { BLOCK = 4096, IN_STORM = 42 };

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void ring(void) {
    atomic_fetch_add(&board->bell, 1);
    syscall(SYS_futex, &board->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void stamp_signal(int signal) {
    (void)signal;
    board->signal_ns = now();
    ring();
}

static void stamp_and_end(int signal) {
    stamp_signal(signal);
    _exit(0);
}

static void stamp_and_end_in_storm(int signal) {
    stamp_signal(signal);
    _exit(IN_STORM);
}

static void on(int signal, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigaction(signal, &action, NULL);
}

static void wait_for_signals(void) {
    for (;;) pause();
}

/* A double fork: the middle one ends at once, so its child is an orphan that init has to reap. */
static void make_orphan(void) {
    pid_t middle = fork();
    if (middle == 0) {
        fork();
        _exit(0);
    }
    if (middle > 0) waitpid(middle, NULL, 0);
    atomic_fetch_add(&board->orphans, 1);
}

/* The helper storms on until it is killed; the main program returns when the storm is well under way. */
static void storm_beside(unsigned orphans) {
    if (fork() == 0)
        for (;;) {
            make_orphan();
            if (board->orphans == orphans) ring();
        }
    for (;;) {
        uint32_t seen = board->bell;
        if (board->orphans >= orphans) return;
        syscall(SYS_futex, &board->bell, FUTEX_WAIT, seen, NULL, NULL, 0);
    }
}

static void write_blocks(uint64_t blocks) {
    static char block[BLOCK];
    memset(block, '.', sizeof block);
    block[BLOCK - 1] = '\n';
    for (uint64_t number = 0; number < blocks; number++) {
        size_t done = 0;
        memcpy(block, &number, sizeof number);
        while (done < BLOCK) {
            ssize_t n = write(2, block + done, BLOCK - done);
            if (n < 0) exit(1);
            done += (size_t)n;
        }
    }
}

static void *idle(void *unused) {
    wait_for_signals();
    return unused;
}

static void crash_at_signal(unsigned threads, size_t mib) {
    sigset_t starter;
    int signal;
    sigemptyset(&starter);
    sigaddset(&starter, SIGUSR1);
    sigprocmask(SIG_BLOCK, &starter, NULL);
    for (unsigned i = 1; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, idle, NULL) != 0) exit(1);
    }
    char *memory = malloc(mib << 20);
    for (size_t at = 0; memory && at < mib << 20; at += BLOCK) memory[at] = 1;
    ring();
    sigwait(&starter, &signal);
    board->done_ns = now();
    *(volatile int *)0 = 0;
}

int main(int argc, char **argv) {
    uint64_t main_ns = now();
    if (argc < 3) return 125;
    int fd = open(argv[2], O_RDWR | O_CLOEXEC);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (board == MAP_FAILED) return 125;
    close(fd);
    const char *role = argv[1];
    unsigned long first = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    unsigned long second = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;

    if (strcmp(role, "serve") == 0) on(SIGUSR1, stamp_signal), on(SIGTERM, stamp_and_end);
    if (strcmp(role, "serve-in-storm") == 0) on(SIGTERM, stamp_and_end_in_storm);
    board->main_ns = main_ns;
    if (strcmp(role, "exit") == 0) return 0;
    if (strcmp(role, "leave-in-storm") == 0) {
        storm_beside(first);
        return IN_STORM;
    }
    if (strcmp(role, "serve-in-storm") == 0) storm_beside(first);
    if (strcmp(role, "storm") == 0) {
        for (unsigned long i = 0; i < first; i++) make_orphan();
        board->done_ns = now();
    }
    if (strcmp(role, "write") == 0) {
        write_blocks(first);
        return 0;
    }
    if (strcmp(role, "crash") == 0) crash_at_signal((unsigned)first, second);
    ring();
    wait_for_signals();
}
