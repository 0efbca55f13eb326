//! Turns the place that a person writes (`se`, `stockholm`, `vpn05`, `vpn05/us`) into a destination.

use crate::problem::{Problem, ProblemCode};
use crate::wire::{ServerListing, is_name};
use hamn_core::location::Destination;

/// Longest text that is looked at, in bytes.
const LONGEST: usize = 128;

/// Finds what `text` means in `listing`. Without a list (provider out of reach, nothing cached) the form of the text
/// decides: two letters are a country, anything else a server; `connect` then reports what is missing.
///
/// # Errors
/// `invalid_value` when the text cannot be a place, `no_server` when nothing has that name.
pub fn resolve(text: &str, listing: Option<&ServerListing>) -> Result<Destination, Problem> {
    let wanted = text.trim().to_lowercase();
    if wanted.len() > LONGEST {
        return Err(Problem::with_detail(ProblemCode::InvalidValue, "a place has at most 128 characters"));
    }
    if matches!(wanted.as_str(), "" | "best" | "auto") {
        return Ok(Destination::Best);
    }
    // `city:stockholm`, `server:vpn05/us`, `profile:home`: said exactly, so the list has no say.
    if wanted.contains(':') {
        let exact = text.trim().parse::<Destination>();
        return exact.map_err(|error| Problem::with_detail(ProblemCode::InvalidValue, error.to_string()));
    }
    let (name, exit) = match wanted.split_once('/') {
        Some((name, exit)) => (name, Some(exit)),
        None => (wanted.as_str(), None),
    };
    if exit.is_some_and(|exit| !is_name(exit)) || name.chars().any(char::is_control) {
        return Err(Problem::with_detail(ProblemCode::InvalidValue, "a place is a country, city or server, or SERVER/EXIT"));
    }
    match listing {
        Some(listing) => find(name, exit, listing),
        None => by_form(name, exit),
    }
}

fn by_form(name: &str, exit: Option<&str>) -> Result<Destination, Problem> {
    match exit {
        None if is_country(name) => Ok(Destination::Country { country: name.to_owned() }),
        _ if is_name(name) => Ok(Destination::Server { server: name.to_owned(), exit: exit.map(str::to_owned) }),
        _ => Err(unknown(name)),
    }
}

fn find(name: &str, exit: Option<&str>, listing: &ServerListing) -> Result<Destination, Problem> {
    let cities = || listing.countries.iter().flat_map(|country| &country.cities);
    if let Some(server) = cities().flat_map(|city| &city.servers).find(|server| server.id.to_lowercase() == name) {
        let exit = match exit {
            None => None,
            Some(exit) => {
                let found = server.exits.iter().find(|entry| entry.id.to_lowercase() == exit);
                let problem = || Problem::with_detail(ProblemCode::NoServer, format!("{} has no exit `{exit}`", server.id));
                Some(found.ok_or_else(problem)?.id.clone())
            }
        };
        return Ok(Destination::Server { server: server.id.clone(), exit });
    }
    if exit.is_some() {
        return Err(unknown(name));
    }
    let exits = || cities().flat_map(|city| &city.servers).flat_map(|server| &server.exits);
    let country = listing.countries.iter().find(|entry| entry.country == name || entry.name.to_lowercase() == name);
    if let Some(country) = country {
        return Ok(Destination::Country { country: country.country.clone() });
    }
    if is_country(name) && exits().any(|exit| exit.country == name) {
        return Ok(Destination::Country { country: name.to_owned() });
    }
    match cities()
        .find(|city| city.id.to_lowercase() == name || city.slug.to_lowercase() == name || city.name.to_lowercase() == name)
    {
        Some(city) => Ok(Destination::City { city: city.id.clone() }),
        None => Err(unknown(name)),
    }
}

fn is_country(name: &str) -> bool {
    name.len() == 2 && name.chars().all(|c| c.is_ascii_lowercase())
}

fn unknown(name: &str) -> Problem {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Problem::with_detail(ProblemCode::NoServer, format!("nothing is called `{shown}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CityEntry, CountryEntry, ExitEntry, ServerEntry};

    fn listing() -> ServerListing {
        let exit = |id: &str| ExitEntry { id: id.into(), country: id.into(), default: id == "se" };
        let server = ServerEntry { id: "vpn05".into(), exits: vec![exit("se"), exit("us")], ..ServerEntry::default() };
        let city = CityEntry {
            id: "se-sto".into(),
            slug: "stockholm".into(),
            name: "Stockholm".into(),
            servers: vec![server],
            ..CityEntry::default()
        };
        let country = CountryEntry { country: "se".into(), name: "Sweden".into(), cities: vec![city] };
        ServerListing { countries: vec![country], ..ServerListing::default() }
    }

    #[test]
    fn places_are_found_as_people_write_them() {
        let list = listing();
        let find = |text| resolve(text, Some(&list)).map_err(|problem| problem.code);
        let country = |country: &str| Ok(Destination::Country { country: country.into() });
        let server = |exit: Option<&str>| Ok(Destination::Server { server: "vpn05".into(), exit: exit.map(str::to_owned) });
        assert_eq!(find("best"), Ok(Destination::Best));
        assert_eq!(find(" SE "), country("se"));
        assert_eq!(find("profile:Home"), Ok(Destination::Profile { name: "Home".into() }));
        assert_eq!(find("server:vpn09/us"), Ok(Destination::Server { server: "vpn09".into(), exit: Some("us".into()) }));
        assert_eq!(find("teapot:short"), Err(ProblemCode::InvalidValue));
        assert_eq!(find("sweden"), country("se"));
        assert_eq!(find("us"), country("us"), "a country where only an exit is");
        assert_eq!(find("Stockholm"), Ok(Destination::City { city: "se-sto".into() }));
        assert_eq!(find("VPN05"), server(None));
        assert_eq!(find("vpn05/us"), server(Some("us")));
        assert_eq!(find("vpn05/de"), Err(ProblemCode::NoServer));
        assert_eq!(find("de"), Err(ProblemCode::NoServer));
        assert_eq!(find("a\u{1b}[31m"), Err(ProblemCode::InvalidValue));
        assert_eq!(find(&"x".repeat(200)), Err(ProblemCode::InvalidValue));
    }

    #[test]
    fn without_a_list_the_form_decides() {
        assert_eq!(resolve("se", None), Ok(Destination::Country { country: "se".into() }));
        assert_eq!(resolve("vpn05/us", None), Ok(Destination::Server { server: "vpn05".into(), exit: Some("us".into()) }));
        assert!(resolve("new york", None).is_err());
    }
}
