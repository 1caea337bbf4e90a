/**
 * Has V8 compile WebAssembly once, and for good, before anything of it runs: for Node in an emulated machine, loaded before the program.
 *
 * As a rule V8 compiles a function quickly first and better later, and then changes the jump to it (a slot of its jump table, one store of
 * 4 bytes), while other threads go through there. On a processor that is one step. QEMU 7.2 without KVM takes the store apart into bytes
 * where the page holds code and the address is not a multiple of 4 (accel/tcg/cputlb.c), and another CPU of the machine may translate the
 * jump in between. In a core file of an lcore: new jump 0x4376, old one 0x29f6, taken 0x2976, and SIGSEGV there.
 * @module
 */
import { setFlagsFromString } from 'node:v8';
import { isMainThread } from 'node:worker_threads';

// flags are the process's
if (isMainThread) for (const flag of ['--no-liftoff', '--no-wasm-lazy-compilation', '--no-wasm-dynamic-tiering']) setFlagsFromString(flag);
