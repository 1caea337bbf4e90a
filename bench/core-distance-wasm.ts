/**
 * The two spinning halves of the core-to-core round trip, as WebAssembly: a JavaScript `Atomics.load` costs 8-12 ns, which would blur a
 * round trip of 80. Assembled from this text:
 *
 * ```wat
 * (module
 *  (import "bench" "memory" (memory 1 1 shared))
 *  ;; Rounds [$round, $end): write the round's number at 4096, wait until 8192 holds it. Returns the round reached: less than $end when the
 *  ;; other half stayed away for $budget looks.
 *  (func (export "ping") (param $round i32) (param $end i32) (result i32) (local $budget i32)
 *   (local.set $budget (i32.const 0x20000000))
 *   (block $done
 *    (loop $next
 *     (br_if $done (i32.ge_s (local.get $round) (local.get $end)))
 *     (i32.atomic.store (i32.const 4096) (local.get $round))
 *     (loop $poll
 *      (br_if $done (i32.eqz (local.tee $budget (i32.sub (local.get $budget) (i32.const 1)))))
 *      (br_if $poll (i32.ne (i32.atomic.load (i32.const 8192)) (local.get $round))))
 *     (local.set $round (i32.add (local.get $round) (i32.const 1)))
 *     (br $next)))
 *   (local.get $round))
 *  ;; The same the other way round: wait until 4096 holds the round's number, write it at 8192.
 *  (func (export "pong") (param $round i32) (param $end i32) (result i32) (local $budget i32)
 *   (local.set $budget (i32.const 0x20000000))
 *   (block $done
 *    (loop $next
 *     (br_if $done (i32.ge_s (local.get $round) (local.get $end)))
 *     (loop $poll
 *      (br_if $done (i32.eqz (local.tee $budget (i32.sub (local.get $budget) (i32.const 1)))))
 *      (br_if $poll (i32.ne (i32.atomic.load (i32.const 4096)) (local.get $round))))
 *     (i32.atomic.store (i32.const 8192) (local.get $round))
 *     (local.set $round (i32.add (local.get $round) (i32.const 1)))
 *     (br $next)))
 *   (local.get $round)))
 * ```
 * @module
 */
export const PING_PONG_WASM: Uint8Array = Buffer.from(
  'AGFzbQEAAAABBwFgAn9/AX8CEgEFYmVuY2gGbWVtb3J5AgMBAQMDAgAABw8CBHBpbmcAAARwb25nAAEKkwECSAEBf0GAgICAAiECAkADQCAAIAFODQFB' +
    'gCAgAP4XAgADQCACQQFrIgJFDQJBgMAA/hACACAARw0ACyAAQQFqIQAMAAsACyAAC0gBAX9BgICAgAIhAgJAA0AgACABTg0BA0AgAkEBayICRQ0CQYAg' +
    '/hACACAARw0AC0GAwAAgAP4XAgAgAEEBaiEADAALAAsgAAs=',
  'base64',
);
