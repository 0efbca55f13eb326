// The world as one path, and where cities lie on it. Natural Earth, from the package world-atlas.
import { geoNaturalEarth1, geoPath } from 'd3-geo';
import { feature, mesh } from 'topojson-client';
import type { GeometryCollection, Topology } from 'topojson-specification';
import type { ServerListing } from '../../bridge/types';

/** Units of the drawing. The south beyond the last city is left out. */
export const width = 960;
export const height = 440;

const projection = geoNaturalEarth1()
  .scale(176)
  .translate([width / 2, 258]);

export interface World {
  land: string;
  borders: string;
}

let loaded: Promise<World> | undefined;

/** The outlines; computed once, from a chunk that loads after the view is up. */
export function world(): Promise<World> {
  loaded ??= import('world-atlas/countries-110m.json').then((module) => {
    const atlas = module.default as unknown as Topology<{ countries: GeometryCollection; land: GeometryCollection }>;
    const path = geoPath(projection).digits(1);
    return {
      land: path(feature(atlas, atlas.objects.land)) ?? '',
      borders: path(mesh(atlas, atlas.objects.countries, (a, b) => a !== b)) ?? ''
    };
  });
  return loaded;
}

export interface Dot {
  id: string;
  name: string;
  x: number;
  y: number;
}

/** Where a point lies; null when it is none (the helper passes on what a provider wrote). */
export function pointOf(latitude: number, longitude: number): [number, number] | null {
  if (!(Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180)) return null;
  return projection([longitude, latitude]);
}

/** A dot per city; at most `most`, which is far more than a map can show. */
export function dotsOf(listing: ServerListing | null, most = 1500): Dot[] {
  const dots: Dot[] = [];
  for (const country of listing?.countries ?? []) {
    for (const city of country.cities) {
      const point = pointOf(city.latitude, city.longitude);
      if (point && dots.length < most) dots.push({ id: city.id, name: city.name, x: point[0], y: point[1] });
    }
  }
  return dots;
}

export interface Camera {
  x: number;
  y: number;
  scale: number;
}

const whole: Camera = { x: 0, y: 0, scale: 1 };

/** Moves the drawing so that the point is in the middle, as far as the edges allow. */
export function cameraOn(point: [number, number] | null, scale: number): Camera {
  if (!point) return whole;
  const within = (wanted: number, size: number) => Math.min(0, Math.max(size - size * scale, wanted));
  return { x: within(width / 2 - point[0] * scale, width), y: within(height / 2 - point[1] * scale, height), scale };
}
