/**
 * `show capture`.
 * @module
 */
import type { CaptureDirection, CaptureStatistics } from '../../port/capture.ts';

const DIRECTIONS: Readonly<Record<CaptureDirection, string>> = { rx: 'received', tx: 'sent', both: 'received and sent' };

export interface ShownCapture {
  readonly port: number;
  readonly capture: {
    readonly file: string;
    readonly direction: CaptureDirection;
    readonly active: boolean;
    statistics(): CaptureStatistics;
  };
}

/** A block of lines a capture. */
export function capturesText(captures: readonly ShownCapture[]): string {
  if (captures.length === 0) return 'No port is being captured\n';
  const border = '#'.repeat(24);
  const column = (label: string, value: number): string => `${label}: ${String(value).padEnd(12)} `;
  return captures
    .map(({ port, capture }) => {
      const { packets, bytes, dropped, failed } = capture.statistics();
      const title = `  ${border} Capture of port ${String(port)} ${border}`;
      return [
        '',
        title,
        `  File: ${capture.file} (${capture.active ? 'running' : 'ended'}; packets ${DIRECTIONS[capture.direction]})`,
        `  ${column('Captured', packets)}${column('Bytes', bytes)}`.trimEnd(),
        `  ${column('Dropped', dropped)} ${column('Not written', failed)}`.trimEnd(),
        `  ${'#'.repeat(title.length - 2)}`,
        '',
      ].join('\n');
    })
    .join('');
}
