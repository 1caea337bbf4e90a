/**
 * What the benchmark says on stderr while it works: a line for each window, and on a terminal one more that is rewritten.
 * @module
 */
import { inUnit, type BenchCase } from './cases.ts';
import { figure } from './report-table.ts';
import type { LatencyStats } from './port-stats.ts';
import type { WindowResult } from './window.ts';

export interface Progress {
  /** What is going on now; only a terminal shows it. */
  now(text: string): void;
  /** Something to keep. */
  line(text: string): void;
  end(): void;
}

export function openProgress(stream: NodeJS.WriteStream): Progress {
  const clear = '\r\x1b[2K';
  let shown = false;
  const erase = (): void => {
    if (shown) {
      stream.write(clear);
      shown = false;
    }
  };
  return {
    now(text) {
      if (stream.isTTY) {
        stream.write(clear + text.slice(0, Math.max(20, stream.columns - 1)));
        shown = true;
      }
    },
    line(text) {
      erase();
      stream.write(`${text}\n`);
    },
    end: erase,
  };
}

/** "64 virtio-to-vhost ours-dpdk: 21.3 Mpps, near (118, 121 ns)", and why it does not count where it does not. */
export function describeWindow(benchCase: BenchCase, window: WindowResult): string {
  const { measured, leftOut } = window;
  const about = `${window.case} ${window.direction} ${window.pairing} round ${window.round}:`;
  const left = leftOut === undefined ? '' : ` left out, ${leftOut.reason}: ${leftOut.detail}`;
  if (measured === undefined) {
    return about + left;
  }
  const distances = `${Math.round(measured.distanceBeforeNs)}, ${Math.round(measured.distanceAfterNs)} ns`;
  const rate =
    measured.latency === undefined
      ? `${figure(inUnit(benchCase, measured.packetsPerSecond))} ${benchCase.unit}`
      : percentiles(measured.latency);
  const dropped = measured.ends.virtio.txDropped + measured.ends.vhost.txDropped;
  const lost = window.direction === 'io-loop' && dropped > 0 ? `, ${dropped} dropped from the loop` : '';
  return `${about} ${rate}, ${measured.stateBefore} (${distances})${lost}${left === '' ? '' : `;${left}`}`;
}

/** "p50 1.2 p90 ... us", and what the rate did not come to. */
function percentiles({ microseconds, unsent, late, sent, packets }: LatencyStats): string {
  const times = Object.entries(microseconds).map(([name, value]) => `${name} ${figure(value)}`);
  const missing = [`${sent - packets} not back`, `${unsent} unsent`, `${late} late`].filter((text) => !text.startsWith('0 '));
  return `${times.join(' ')} us of ${packets} packets${missing.length === 0 ? '' : ` (${missing.join(', ')})`}`;
}

/** "about 3 min left" from what is done of how much; nothing to go by at the start. */
export function timeLeft(elapsedMs: number, done: number, total: number): string {
  if (done === 0) {
    return '';
  }
  const seconds = Math.round((elapsedMs / 1000 / done) * (total - done));
  return seconds < 90 ? `about ${seconds} s left` : `about ${Math.round(seconds / 60)} min left`;
}
