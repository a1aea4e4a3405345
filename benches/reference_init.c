/* The floor that the inits are measured against: the least that a PID 1 must do, static, with nothing configurable.
   It blocks signals, starts the program, passes signals on, reaps, and ends with the program's exit code.
   cc -O2 -static; the bench compiles it itself. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    sigset_t all, before;
    int signal, status, code = 0;
    pid_t child, dead;

    if (argc < 2) return 125;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    child = fork();
    if (child < 0) return 125;
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        execvp(argv[1], argv + 1);
        _exit(errno == ENOENT ? 127 : 126);
    }
    for (;;) {
        if (sigwait(&all, &signal) != 0) continue;
        if (signal != SIGCHLD) {
            kill(child, signal);
            continue;
        }
        while ((dead = waitpid(-1, &status, WNOHANG)) > 0)
            if (dead == child) code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), child = 0;
        if (child == 0) return code;
    }
}
