//! Layers: tar archives to trees and back, whiteouts, compression.
