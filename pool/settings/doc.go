// Package settings is the untyped face of settings: a console, a file or a fleet reads and changes
// the settings of a layer or a pool without knowing the type of the Config.
//
// A layer makes a [Spec] once: the list of its fields. [New] makes a [Live] of the Spec, of the
// declared Config and of the layer's [Hooks]. The Live keeps the settings, and gives the layer the
// typed methods Config, Effective and Configure. [Live.Tuning] returns the untyped face, a
// [Tuning]: Fields, Read, Preview and Apply. A layer with a Tuning is [Tunable], and the method
// Tunings of a pool finds the layer.
//
// # Sources
//
// Several sources declare settings: [Code], [File], [Fleet], [Trial] and [Force], the lowest first.
// For each field, the highest source with a value wins. Configure writes the source Code. Apply
// writes one of the other sources: the values of a [Request] replace all values of its source, and
// a Request without values ends the source.
//
// Example: the file declares open_for 2s, the fleet consecutive_failures 8, and trial c-12 open_for
// 1s. In force are 1s and 8. Now the file changes open_for to 3s. Result.Held tells that c-12 holds
// open_for, and 1s stays in force. When trial c-12 ends, 3s is in force.
//
// # Values
//
// Values are texts: "2s", "0.4", "8", "true", "off". "off" is a value of the fields with a
// description in Field.Off. Some fields have a word for 0, for example "automatic"
// (Field.ZeroText). An empty text, or no text, declares nothing. The text "0" of a higher source
// declares the default against a lower source.
//
// A field without a text is not in the list: a function, a provider, a name. Such a field keeps the
// value given by code. The value of a [Secret] never leaves a Tuning: the texts hold [Hidden] in
// its place. Hidden in a Request keeps the secret of the same source, so Declared.Values can be
// written back.
//
// # Changes
//
// Every accepted Configure and Apply is a change: the change raises the revision by 1, and is
// reported once (Hooks.Report), after all locks are released. Reports of concurrent changes may
// arrive in any order; Result.Revision gives the order of the changes. A refused change changes
// nothing. A change is refused if the merge of the sources is not valid, and the error names the
// sources in conflict. Trials and forced settings end at a deadline, and nothing may stop their
// end. So a change is also refused if the other sources were not valid after the end of a trial or
// of forced settings.
package settings
