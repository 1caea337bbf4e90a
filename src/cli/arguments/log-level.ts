/**
 * `--log-level`: a level for everything (`debug`, `8`) or for the log types that a pattern matches (`pmd.net.*:debug`).
 * @module
 */

export const LOG_LEVELS = ['emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug'] as const;

export interface LogLevel {
  /** Log types that it is for; undefined for all. */
  readonly pattern: string | undefined;
  /** `glob` where a colon preceded the level, `regexp` where a comma did. */
  readonly syntax: 'glob' | 'regexp';
  /** 1 (emergency) to 8 (debug). */
  readonly level: number;
}

export interface LogLevelResult {
  readonly level: LogLevel | undefined;
  /** What DPDK says of it. It never ends the program. */
  readonly warnings: readonly string[];
}

export function parseLogLevel(text: string): LogLevelResult {
  const comma = text.indexOf(',');
  const separator = comma < 0 ? text.indexOf(':') : comma;
  const pattern = separator < 0 ? undefined : text.slice(0, separator);
  const word = text.slice(separator + 1);
  const syntax = comma < 0 ? 'glob' : 'regexp';
  if (pattern !== undefined && syntax === 'regexp' && !isRegExp(pattern)) return refused(pattern, 'log type', 'a regular expression');
  const number = /^\d{1,9}$/.test(word)
    ? Number(word)
    : LOG_LEVELS.findIndex((name) => word !== '' && name.startsWith(word.toLowerCase())) + 1;
  if (number < 1) return refused(word, 'log level', `1 to ${LOG_LEVELS.length}, or the first letters of ${LOG_LEVELS.join(', ')}`);
  const highest = LOG_LEVELS.length;
  const warnings = number > highest ? [`Log level ${number} higher than maximum (${highest})`] : [];
  return { level: { pattern, syntax, level: Math.min(number, highest) }, warnings };
}

/** What a driver's log type shows unless it is told otherwise. */
const DRIVER_LEVEL = LOG_LEVELS.indexOf('notice') + 1;

/**
 * Whether a driver's log type `type` shows lines of `level`: the last pattern that matches it counts, and a level without a pattern
 * is the most that is shown of anything.
 */
export function isLogged(levels: readonly LogLevel[], type: string, level: (typeof LOG_LEVELS)[number]): boolean {
  const number = LOG_LEVELS.indexOf(level) + 1;
  const most = levels.findLast(({ pattern }) => pattern === undefined)?.level ?? LOG_LEVELS.length;
  const own = levels.findLast((candidate) => matchesType(candidate, type))?.level ?? DRIVER_LEVEL;
  return number <= Math.min(most, own);
}

function matchesType({ pattern, syntax }: LogLevel, type: string): boolean {
  if (pattern === undefined) return false;
  if (syntax === 'regexp') return new RegExp(pattern).test(type);
  const literal = pattern.replace(/[\\^$.|+(){}[\]]/g, '\\$&');
  return new RegExp(`^${literal.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(type);
}

/** What `--log-level=help` prints. */
export function logLevelHelp(): string {
  return [
    'One level for everything:      --log-level LEVEL',
    'For the types of a pattern:    --log-level PATTERN:LEVEL',
    'The same, regular expression:  --log-level REGEXP,LEVEL',
    'The level is a number or the first letters of a name:',
    ...LOG_LEVELS.map((name, index) => `\t${index + 1}   ${name}`),
    '',
  ].join('\n');
}

function refused(value: string, what: string, expected: string): LogLevelResult {
  return {
    level: undefined,
    warnings: [`Invalid ${what}: ${value}`, 'EAL: invalid parameters for --log-level', `--log-level has no effect: expected ${expected}`],
  };
}

function isRegExp(text: string): boolean {
  try {
    new RegExp(text);
    return true;
  } catch {
    return false;
  }
}
