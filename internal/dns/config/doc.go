// Package config is the DNS server's configuration file: YAML, read strictly.
//
// Contract. Parse is pure: it reads bytes, opens no file, and gives either a File in which every value is in range or an error with one
// line for each mistake: file, line, field, what is wrong, what helps. A field that is not known is a mistake. What is not in the file has the
// value of Default. Names of domains come out in wire form and lower case; addresses as package forward reads them. docs/dns.md has the
// reference, which a test compares with the fields here.
package config
