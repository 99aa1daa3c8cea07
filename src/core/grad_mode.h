/* What is switched per thread: recording off (no_grad), inference mode. */
#ifndef FASTGRAD_GRAD_MODE_H
#define FASTGRAD_GRAD_MODE_H

typedef struct fg_grad_mode {
    int recording_off;
    int inference;
} fg_grad_mode;

static _Thread_local fg_grad_mode fg_grad_mode_of_thread;

static inline fg_grad_mode *fg_current_grad_mode(void) { return &fg_grad_mode_of_thread; }

#endif
