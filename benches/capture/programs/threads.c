// threads contend|steady|storm: three ways of having many threads.
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile long counted;

static void *count(void *turns) {
    for (long i = 0; i < (long)turns; i++) {
        pthread_mutex_lock(&lock);
        counted++;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}
static void in_turn(int many, long turns, int pause) {
    for (int i = 0; i < many; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, count, (void *)turns) != 0) _exit(3);
        pthread_join(thread, NULL);
        if (pause) usleep(pause);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "steady")) in_turn(150, 100000, 10000 - 700);
    else if (argc > 1 && !strcmp(argv[1], "storm")) in_turn(20000, 1, 0);
    else {
        pthread_t threads[64];
        for (int i = 0; i < 64; i++) pthread_create(&threads[i], NULL, count, (void *)150000L);
        for (int i = 0; i < 64; i++) pthread_join(threads[i], NULL);
    }
    return counted == 0;
}
