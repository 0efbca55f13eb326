// Names of places and destinations, in the language of the window.
import type { Destination, Place } from '../bridge/types';
import { listing } from '../state/listing.svelte';
import { country } from './format';
import { m } from './messages';

/** A place in two lines: what it is called, and where that is. */
export interface PlaceWords {
  name: string;
  where: string;
  /** ISO 3166-1 alpha-2 of the place, when it has one. */
  country: string | null;
}

/** True when both mean the same destination. */
export function sameDestination(one: Destination, other: Destination): boolean {
  return destinationKey(one) === destinationKey(other);
}

/** A text that is the same for the same destination, for keyed lists and sets. */
export function destinationKey(destination: Destination): string {
  switch (destination.kind) {
    case 'best':
      return 'best';
    case 'country':
      return `country:${destination.country}`;
    case 'city':
      return `city:${listing.city(destination.city)?.city.id ?? destination.city}`;
    case 'server':
      return `server:${destination.server}/${destination.exit ?? ''}`;
    case 'profile':
      return `profile:${destination.name}`;
  }
}

/** What a destination is called. Names that the list does not know are shown as they are. */
export function destinationWords(destination: Destination): PlaceWords {
  switch (destination.kind) {
    case 'best':
      return { name: m.connect_place_best(), where: m.connect_place_best_where(), country: null };
    case 'country':
      return { name: country(destination.country), where: m.connect_place_any_city(), country: destination.country };
    case 'city': {
      const found = listing.city(destination.city);
      if (!found) return { name: destination.city, where: '', country: null };
      return {
        name: found.city.name,
        where: country(found.country.country, found.country.name),
        country: found.country.country
      };
    }
    case 'server': {
      const found = listing.server(destination.server);
      if (!found) return { name: destination.server, where: '', country: null };
      const exit = found.server.exits.find((entry) => entry.id === destination.exit && !entry.default);
      const city = m.connect_place_in({
        city: found.city.name,
        country: country(found.country.country, found.country.name)
      });
      const where = exit ? m.connect_place_exit({ place: city, country: country(exit.country) }) : city;
      return { name: found.server.name, where, country: exit?.country ?? found.country.country };
    }
    case 'profile':
      return { name: destination.name, where: m.connect_place_profile(), country: null };
  }
}

/** Where a tunnel comes out. */
export function placeWords(place: Place): PlaceWords {
  const known = /^[a-z]{2}$/i.test(place.country);
  const where = known ? country(place.country) : '';
  if (!place.city)
    return {
      name: place.server_name || place.server,
      where: where || m.connect_place_profile(),
      country: known ? place.country : null
    };
  return { name: place.city, where, country: known ? place.country : null };
}
