// Which view is shown. The views are few and flat, so this is a value, not a router.

export const views = ['connect', 'servers', 'settings', 'account', 'diagnostics', 'about'] as const;
export type View = (typeof views)[number];

class Route {
  view = $state<View>('connect');
  #past: View[] = [];

  /** Shows a view and remembers where the user came from. */
  go(view: View): void {
    if (view === this.view) return;
    this.#past = [...this.#past.slice(-15), this.view];
    this.view = view;
  }

  /** Shows the view before this one, if there was one. */
  back(): void {
    const before = this.#past.pop();
    this.view = before ?? 'connect';
  }
}

export const route = new Route();
