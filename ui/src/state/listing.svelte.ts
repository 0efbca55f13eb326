// The server list, loaded once and shared: the map, the quick list and the Servers view read the same copy.
import { commands, problemOf } from '../bridge/commands';
import type { CityEntry, CountryEntry, Link, Problem, ServerEntry, ServerListing } from '../bridge/types';

/** A city and the country it is listed under. */
export interface ListedCity {
  city: CityEntry;
  country: CountryEntry;
}

/** A server and where it stands. */
export interface ListedServer extends ListedCity {
  server: ServerEntry;
}

class Listing {
  /** The list; null until the helper has given one. */
  current = $state.raw<ServerListing | null>(null);
  /** Why the last load failed; null after a good one. */
  problem = $state.raw<Problem | null>(null);
  loading = $state(false);
  /** What the copy was loaded for, so that each serial of each provider is asked for once. */
  #loadedFor: string | null = null;
  #asked = 0;

  #cities = $derived.by(() => {
    const found = new Map<string, ListedCity>();
    for (const country of this.current?.countries ?? []) {
      for (const city of country.cities) {
        found.set(city.slug, { city, country });
        found.set(city.id, { city, country });
      }
    }
    return found;
  });

  #servers = $derived.by(() => {
    const found = new Map<string, ListedServer>();
    for (const country of this.current?.countries ?? []) {
      for (const city of country.cities)
        for (const server of city.servers) found.set(server.id, { server, city, country });
    }
    return found;
  });

  /** A city by id or slug. */
  city(idOrSlug: string): ListedCity | undefined {
    return this.#cities.get(idOrSlug);
  }

  /** A server by id. */
  server(id: string): ListedServer | undefined {
    return this.#servers.get(id);
  }

  /** A country by code. */
  country(code: string): CountryEntry | undefined {
    return this.current?.countries.find((entry) => entry.country === code);
  }

  /** Follows the link: loads when the helper is there and its list is another one. The frame calls this for every link. */
  follow(link: Link): void {
    const provider = link.status?.provider;
    if (!provider) return;
    if (!provider.url) {
      this.reset();
      return;
    }
    const wanted = `${provider.url} ${provider.list_serial ?? 'none'} ${provider.logged_in}`;
    if (wanted === this.#loadedFor) return;
    this.#loadedFor = wanted;
    void this.refresh();
  }

  /** Asks the helper again, also for the newest loads and latencies. Keeps the old list when that fails. */
  async refresh(): Promise<void> {
    this.#asked += 1;
    const mine = this.#asked;
    this.loading = true;
    try {
      const listing = await commands.servers();
      if (mine === this.#asked) this.take(listing);
    } catch (error) {
      if (mine === this.#asked) this.problem = problemOf(error);
    } finally {
      if (mine === this.#asked) this.loading = false;
    }
  }

  /** Shows this list (what `refresh` does with the answer; tests give one directly). */
  take(listing: ServerListing): void {
    this.current = listing;
    this.problem = null;
  }

  /** Forgets everything. */
  reset(): void {
    this.#asked += 1;
    this.#loadedFor = null;
    this.current = null;
    this.problem = null;
    this.loading = false;
  }
}

export const listing = new Listing();
