/* Sends COUNT datagrams of 330 bytes to 127.0.0.1:PORT, RATE a second (0: as fast as it goes), 64 a system call. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { SIZE = 330, RUN = 64 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count_of_arguments, char **arguments) {
    if (count_of_arguments != 4) {
        fprintf(stderr, "usage: udp_send PORT COUNT RATE\n");
        return 2;
    }
    long count = atol(arguments[2]);
    double rate = atof(arguments[3]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&to, sizeof to) < 0) {
        perror("socket");
        return 1;
    }
    char event[SIZE + 1];
    int head = snprintf(event, sizeof event,
                        "{\"appID\":\"7E4A8C12-5B1F-4E57-9C43-2F6D0C1B9A10\",\"clientUser\":\"%064d\","
                        "\"type\":\"Database.updated\",\"isTestMode\":\"false\",\"payload\":{\"note\":\"", 7);
    memset(event + head, 'x', (size_t)(SIZE - head));
    memcpy(event + SIZE - 3, "\"}}", 3);
    struct iovec piece = {.iov_base = event, .iov_len = SIZE};
    struct mmsghdr messages[RUN];
    memset(messages, 0, sizeof messages);
    for (int each = 0; each < RUN; each++) {
        messages[each].msg_hdr.msg_iov = &piece;
        messages[each].msg_hdr.msg_iovlen = 1;
    }
    double start = now();
    long sent = 0;
    while (sent < count) {
        if (rate > 0) {
            double ahead = start + (double)sent / rate - now();
            if (ahead > 0) {
                struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)(ahead * 1e9)};
                nanosleep(&pause, NULL);
            }
        }
        int want = count - sent < RUN ? (int)(count - sent) : RUN;
        int done = sendmmsg(descriptor, messages, (unsigned)want, 0);
        if (done < 0) {
            perror("sendmmsg");
            return 1;
        }
        sent += done;
    }
    printf("%ld %.0f\n", sent, (double)sent / (now() - start));
    return 0;
}
