// Rates from the tunnel's byte counters, kept for an hour. Counters that start again begin a new line, not a negative rate.
import type { Link } from '../bridge/types';

/** Bytes per second at a moment; null where a line ends. */
export interface RatePoint {
  at_ms: number;
  down: number | null;
  up: number | null;
}

interface Counters {
  at_ms: number;
  rx: number;
  tx: number;
  tunnel: string;
}

const keep_ms = 3_600_000;
const most = 3_900;
// Two snapshots closer together than this say more about the clock than about the traffic.
const shortest_ms = 400;
// While the window is hidden there are no snapshots; the time between is one average, drawn as a level line.
const gap_ms = 3_000;

/** The buffer. Pure apart from being a class: moments come from the caller. */
export class RateBuffer {
  #points: RatePoint[] = [];
  #last: Counters | null = null;

  /** Takes a snapshot of the counters; returns true when there is a new point. */
  add(now: Counters): boolean {
    const last = this.#last;
    if (!last || last.tunnel !== now.tunnel || now.rx < last.rx || now.tx < last.tx) {
      if (last) this.#push({ at_ms: last.at_ms + 1, down: null, up: null });
      this.#last = now;
      return last !== null;
    }
    const passed = now.at_ms - last.at_ms;
    if (passed < shortest_ms) return false;
    const down = ((now.rx - last.rx) * 1000) / passed;
    const up = ((now.tx - last.tx) * 1000) / passed;
    if (passed > gap_ms) this.#push({ at_ms: last.at_ms + 1, down, up });
    this.#push({ at_ms: now.at_ms, down, up });
    this.#last = now;
    return true;
  }

  /** Ends the line: there is no tunnel. */
  end(): boolean {
    if (!this.#last) return false;
    this.#push({ at_ms: this.#last.at_ms + 1, down: null, up: null });
    this.#last = null;
    return true;
  }

  /** The points of the last `seconds` before `now_ms`. */
  window(seconds: number, now_ms: number): RatePoint[] {
    const from = now_ms - seconds * 1000;
    return this.#points.filter((point) => point.at_ms >= from && point.at_ms <= now_ms);
  }

  #push(point: RatePoint): void {
    this.#points.push(point);
    const oldest = point.at_ms - keep_ms;
    const first = this.#points.findIndex((kept) => kept.at_ms >= oldest);
    const surplus = Math.max(first, this.#points.length - most);
    if (surplus > 0) this.#points.splice(0, surplus);
  }
}

/** One line of the graph's table: a stretch of time and what flowed in it. */
export interface RateRow {
  from_ms: number;
  down: number;
  up: number;
}

/** The points in at most `rows` stretches of equal length, newest first; stretches without points are left out. */
export function rateRows(points: readonly RatePoint[], seconds: number, now_ms: number, rows: number): RateRow[] {
  const length = (seconds * 1000) / rows;
  const result: RateRow[] = [];
  for (let row = 0; row < rows; row += 1) {
    const to = now_ms - row * length;
    const inside = points.filter((point) => point.at_ms > to - length && point.at_ms <= to && point.down !== null);
    if (inside.length === 0) continue;
    const mean = (of: (point: RatePoint) => number | null) =>
      inside.reduce((sum, point) => sum + (of(point) ?? 0), 0) / inside.length;
    result.push({ from_ms: to - length, down: mean((point) => point.down), up: mean((point) => point.up) });
  }
  return result;
}

class Rates {
  /** Grows with every new point; reading it follows the buffer. */
  revision = $state(0);
  #buffer = new RateBuffer();
  #origin = Date.now() - performance.now();

  /** A clock that only goes forward, so that setting the computer's clock bends no line. */
  now(): number {
    return this.#origin + performance.now();
  }

  /** Follows the link; the frame calls this for every link. */
  follow(link: Link): void {
    const status = link.status;
    const tunnel = status?.tunnel;
    // Out of contact nobody knows the counters; the line goes on when the helper answers.
    if (!status) return;
    const counted =
      tunnel && status.state === 'connected'
        ? this.#buffer.add({
            at_ms: this.now(),
            rx: tunnel.rx_bytes,
            tx: tunnel.tx_bytes,
            tunnel: `${status.attempt?.number ?? 0} ${tunnel.interface}`
          })
        : this.#buffer.end();
    if (counted) this.revision += 1;
  }

  /** The points of the last `seconds`. */
  window(seconds: number): RatePoint[] {
    return this.#buffer.window(seconds, this.now());
  }

  reset(): void {
    this.#buffer = new RateBuffer();
    this.revision += 1;
  }
}

export const rates = new Rates();
