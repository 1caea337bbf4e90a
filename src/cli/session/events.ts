/**
 * Port events as testpmd prints them, and their names for --print-event and --mask-event.
 * @module
 */
export const eventNames = [
  'unknown',
  'intr_lsc',
  'queue_state',
  'intr_reset',
  'vf_mbox',
  'ipsec',
  'macsec',
  'intr_rmv',
  'dev_probed',
  'dev_released',
  'flow_aged',
  'err_recovering',
  'recovery_success',
  'recovery_failed',
] as const;

export type EventName = (typeof eventNames)[number];

const descriptions = {
  intr_lsc: 'link state change',
  queue_state: 'queue state',
  intr_rmv: 'device removal',
} as const satisfies Partial<Record<EventName, string>>;

/** `Port 0: link state change event`, on a line of its own after an empty one. */
export function eventText(port: number, event: keyof typeof descriptions): string {
  return `\nPort ${port}: ${descriptions[event]} event\n`;
}
